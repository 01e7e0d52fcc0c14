package e2e

import (
	"context"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

// ipNetnsExec prepares a tinylb command in the balancer's namespace as a user
// does it. The command gets a private /sys, in which pins would go with it.
func (n *network) ipNetnsExec(command string, args ...string) *lab.Cmd {
	n.t.Helper()
	exec := []string{"netns", "exec", n.balancer.Namespace(), need.Tool(n.t, "tinylb"), command, "--pin", n.PinDir()}
	return n.bridge.Node().Command(context.Background(), need.Tool(n.t, "ip"), append(exec, args...)...)
}

func TestDataPlaneOutlivesIPNetnsExec(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.WriteConfig(n.config(service("web", "tcp", webVIP)))
		d := n.Start(n.ipNetnsExec("run", "-c", n.ConfigFile()))
		d.AwaitLog(0, "msg=ready")
		n.askOften(n.client, webVIP, 20)

		d.Terminate()
		n.askOften(n.client, webVIP, 20)
		status, err := n.ipNetnsExec("status").CombinedOutput()
		if err != nil {
			t.Errorf("status: %v\n%s", err, status)
		}
		d = n.Start(n.ipNetnsExec("run", "-c", n.ConfigFile()))
		d.AwaitLog(0, "msg=ready")
		if got := testnet.Packets(n.Status(), "web", "new-flow"); got != 40 {
			t.Errorf("%d new flows counted in all, want 40", got)
		}
		d.Kill()
		if out, err := n.ipNetnsExec("down").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		n.checkNothingLeft()
	})
}
