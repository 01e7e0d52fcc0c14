package e2e

import (
	"context"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// Two network namespaces often have an eth0 with the same index.
func TestAnotherNamespacesDataPlaneIsLeftAlone(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.webs()
	d := n.Run(n.config(service("web", "tcp", webVIP)))
	d.Terminate()
	program := attachedProgram(t, n.balancer, "eth0")
	elsewhere := n.client.Command(context.Background(), need.Tool(t, "tinylb"), "run", "-c", n.ConfigFile(), "--pin", n.PinDir())
	n.mustFail(elsewhere, exitHost, "forwards in another network namespace (eth0)", "--pin")
	if id := attachedProgram(t, n.balancer, "eth0"); id != program {
		t.Errorf("program %d is attached, before it was %d", id, program)
	}
	n.askOften(n.client, webVIP, 20)
}

// Its link goes with an interface, but the pin stays.
func TestStatusDoesNotShowAnInterfaceThatIsGone(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	d := n.Run(n.config(service("web", "tcp", webVIP)))
	d.Terminate()
	if got := n.Status().Interfaces; len(got) != 1 || got[0].Name != "eth0" || got[0].Mode != lb.ModeNative {
		t.Errorf("interfaces before: %+v", got)
	}
	device, err := n.balancer.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.balancer.Netlink().LinkDel(device); err != nil {
		t.Fatal(err)
	}
	if got := n.Status().Interfaces; len(got) != 0 {
		t.Errorf("interfaces after: %+v", got)
	}
	if err := n.Tinylb("down").Run(); err != nil {
		t.Error(err)
	}
}
