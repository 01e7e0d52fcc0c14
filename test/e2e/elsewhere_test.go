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
	d := n.run(n.config(service("web", "tcp", webVIP)))
	d.terminate()
	program := attachedProgram(t, n.balancer, "eth0")
	elsewhere := n.client.Command(context.Background(), need.Tool(t, "tinylb"), "run", "-c", n.configFile(), "--pin", n.pinDir())
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
	d := n.run(n.config(service("web", "tcp", webVIP)))
	d.terminate()
	if got := n.status().Interfaces; len(got) != 1 || got[0].Name != "eth0" || got[0].Mode != lb.ModeNative {
		t.Errorf("interfaces before: %+v", got)
	}
	device, err := n.balancer.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.balancer.Netlink().LinkDel(device); err != nil {
		t.Fatal(err)
	}
	if got := n.status().Interfaces; len(got) != 0 {
		t.Errorf("interfaces after: %+v", got)
	}
	if err := n.tinylb("down").Run(); err != nil {
		t.Error(err)
	}
}
