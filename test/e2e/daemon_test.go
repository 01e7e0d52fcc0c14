package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/testnet"
)

// attachedProgram returns the id of the XDP program on an interface; 0 is none.
func attachedProgram(t *testing.T, node *lab.Node, ifname string) int {
	t.Helper()
	link, err := node.Netlink().LinkByName(ifname)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
		return int(xdp.ProgId)
	}
	return 0
}

// checkNothingLeft checks that nothing of tinylb's is in the balancer.
func (n *network) checkNothingLeft() {
	n.t.Helper()
	if id := attachedProgram(n.t, n.balancer, "eth0"); id != 0 {
		n.t.Errorf("left behind: XDP program %d is attached", id)
	}
	if _, err := os.Stat(n.PinDir()); !errors.Is(err, fs.ErrNotExist) {
		left, _ := filepath.Glob(filepath.Join(n.PinDir(), "*"))
		n.t.Errorf("left behind: %s with %q (%v)", n.PinDir(), left, err)
	}
	if locks, _ := filepath.Glob("/run/tinylb/*" + n.lab.Prefix() + "*"); len(locks) > 0 {
		n.t.Errorf("left behind: %q", locks)
	}
}

// kernelObjects are ids of what the data plane consists of.
type kernelObjects struct {
	program ebpf.ProgramID
	maps    []ebpf.MapID
}

// dataPlane finds the program on the balancer's interface and its maps.
func (n *network) dataPlane() kernelObjects {
	n.t.Helper()
	id := ebpf.ProgramID(attachedProgram(n.t, n.balancer, "eth0"))
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		n.t.Fatalf("the program on eth0: %v", err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		n.t.Fatal(err)
	}
	maps, _ := info.MapIDs()
	if len(maps) == 0 {
		n.t.Fatal("the program has no maps")
	}
	return kernelObjects{id, maps}
}

// awaitGone waits until the kernel has none of the objects any more.
func (k kernelObjects) awaitGone(t *testing.T) {
	t.Helper()
	testnet.Eventually(t, testnet.DaemonWait, func() error {
		if p, err := ebpf.NewProgramFromID(k.program); !errors.Is(err, fs.ErrNotExist) {
			p.Close()
			return fmt.Errorf("program %d is still there (%v)", k.program, err)
		}
		for _, id := range k.maps {
			if m, err := ebpf.NewMapFromID(id); !errors.Is(err, fs.ErrNotExist) {
				m.Close()
				return fmt.Errorf("map %d is still there (%v)", id, err)
			}
		}
		return nil
	})
}
