package lab

import (
	"os/exec"
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
	// It blocks on its input, so that it lives until its start time has been read.
	child := exec.Command("/bin/cat")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer input.Close()
	pid := child.Process.Pid
	start, err := startTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	o := owner{pid: pid, start: start}
	if !o.alive() {
		t.Error("a process that waits for input does not count as alive")
	}
	input.Close()
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if o.alive() {
		t.Error("a zombie counts as alive")
	}
}
