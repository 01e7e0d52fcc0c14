package forward

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// Without its flow, a packet's backend is still what the scheduler's table says.
// But with nat nobody knows any more which client an answer is for.
func TestConnectionsWhoseFlowsAreLost(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if w.twoArm || w.vip != w.backend {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 3)
			for i, backend := range n.backends {
				testnet.EchoTCP(t, backend, n.local(i, echoPort))
			}
			n.Run(n.config())
			connections := n.talk(12)
			n.Down()
			n.RunAgain()
			for _, c := range connections {
				err := c.Exchange(100_000, testnet.AnswerWait)
				if w.forward != lb.ForwardNAT && err != nil {
					t.Errorf("the connection to %s: %v", c.Backend, err)
				}
				if w.forward == lb.ForwardNAT && !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the connection to %s was not reset: %v", c.Backend, err)
				}
			}
			if resets := testnet.Packets(n.Status(), "rest", "no-flow"); (resets > 0) != (w.forward == lb.ForwardNAT) {
				t.Errorf("%d packets had no flow", resets)
			}
		})
	}
}

// talk opens connections, and wants them to meet more than one backend.
func (n *network) talk(count int) (all []*testnet.Conversation) {
	n.t.Helper()
	from := netip.AddrPortFrom(n.vip.address(front, clientHost).Addr(), 0).String()
	backends := map[string]bool{}
	for range count {
		c := testnet.MustTalk(n.t, n.client, from, n.at(echoPort).String())
		c.MustExchange(n.t, 1000)
		n.must(c.AcknowledgeNow()) // or it comes when nobody but the kernel is there to answer, with a reset
		backends[c.Backend] = true
		all = append(all, c)
	}
	if len(backends) < 2 {
		n.t.Fatalf("%d connections met one backend alone", count)
	}
	return all
}
