package testnet

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
)

// SendFrames sends frames as they are by a node's interface, from the given processors in turn; none: from any.
func SendFrames(t testing.TB, node *lab.Node, ifname string, frames [][]byte, processors ...int) {
	t.Helper()
	link, err := node.Interface(ifname)
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	err = node.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6}
	if len(processors) == 0 {
		for _, frame := range frames {
			err = errors.Join(err, unix.Sendto(fd, frame, 0, to))
		}
	} else {
		err = sendFrom(processors, fd, frames, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sendFrom lets each processor send its part at the same time.
func sendFrom(processors []int, fd int, frames [][]byte, to unix.Sockaddr) error {
	failed := make(chan error)
	for i, processor := range processors {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its affinity
			var only unix.CPUSet
			only.Set(processor)
			err := unix.SchedSetaffinity(0, &only)
			for n := i; n < len(frames) && err == nil; n += len(processors) {
				err = unix.Sendto(fd, frames[n], 0, to)
			}
			failed <- err
		}()
	}
	var err error
	for range processors {
		err = errors.Join(err, <-failed)
	}
	return err
}
