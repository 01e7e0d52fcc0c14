package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckKernel(t *testing.T) {
	tests := []struct {
		release string
		want    error
	}{
		{"6.1.0-40-cloud-amd64", nil},
		{"6.12.48+deb13", nil},
		{"10.0", nil},
		{"6.0.19", ErrKernelTooOld},
		{"5.15.0-1-generic", ErrKernelTooOld},
	}
	for _, test := range tests {
		if err := checkKernel(test.release); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.release, err, test.want)
		}
	}
	if err := checkKernel("unreadable"); err == nil || errors.Is(err, ErrKernelTooOld) {
		t.Errorf("an unreadable version gave %v", err)
	}
}

func TestCheckCapabilities(t *testing.T) {
	bit := func(capabilities ...int) (set uint64) {
		for _, c := range capabilities {
			set |= 1 << c
		}
		return set
	}
	tests := []struct {
		name      string
		effective uint64
		missing   []string
	}{
		{"root", ^uint64(0), nil},
		{"the least", bit(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN), nil},
		{"CAP_SYS_ADMIN for both of BPF's", bit(unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN), nil},
		{"no CAP_NET_ADMIN", bit(unix.CAP_SYS_ADMIN), []string{"CAP_NET_ADMIN"}},
		{"nobody", 0, []string{"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := checkCapabilities(test.effective)
			if len(test.missing) == 0 && err != nil || len(test.missing) > 0 && !errors.Is(err, ErrCapability) {
				t.Fatalf("got %v", err)
			}
			for _, name := range test.missing {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name %s", err, name)
				}
			}
		})
	}
}

func TestParentOf(t *testing.T) {
	if got := parentOf(os.Getpid()); got != os.Getppid() {
		t.Errorf("got %d, want %d", got, os.Getppid())
	}
	if got := parentOf(1<<22 + 1); got != 0 { // above the largest pid_max
		t.Errorf("the parent of nobody is %d", got)
	}
}
