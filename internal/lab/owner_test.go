package lab

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAbandoned(t *testing.T) {
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	reused := owner{pid: me.pid, start: me.start - 1}
	// Above the largest pid_max that proc_sys_kernel(5) allows.
	gone := owner{pid: 1<<22 + 1, start: 7}

	tests := []struct {
		what, name string
		want       bool
	}{
		{"this process", me.prefix() + "demo-client", false},
		{"another process with a reused pid", reused.prefix() + "demo", true},
		{"no such process", gone.prefix() + "demo", true},
		{"somebody else's namespace", "blue", false},
		{"somebody else's namespace with our first letters", "tlb-1", false},
		{"a pid that is no number", "tlb-99999999999999999999-z-demo", false},
		{"a start time that is no number", "tlb-1-zzzzzzzzzzzzzzzzzzzz-demo", false},
	}
	for _, test := range tests {
		if got := Abandoned(test.name); got != test.want {
			t.Errorf("%s: Abandoned(%q) = %t, want %t", test.what, test.name, got, test.want)
		}
	}
}

func TestZombieIsGone(t *testing.T) {
	p, err := os.StartProcess("/proc/self/exe", []string{"zombie", "-test.run=^$"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	start, err := startTime(p.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	if err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if o := (owner{pid: p.Pid, start: start}); o.alive() {
		t.Error("a zombie counts as alive")
	}
}
