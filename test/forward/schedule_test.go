package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// scheduled are the ways in which who gets a flow is tried.
func scheduled() (some []way) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if !w.twoArm && w.vip == w.backend {
			some = append(some, w)
		}
	}
	return some
}

// nameUDP starts a server that answers each datagram with the node's name.
func nameUDP(t *testing.T, node *lab.Node, address string) {
	t.Helper()
	c := testnet.ListenUDP(t, node, address)
	go func() {
		buffer := make([]byte, 2000)
		for {
			_, from, err := c.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteToUDPAddrPort([]byte(node.Name()), from)
			}
		}
	}()
}

const quicPort = 443

// quicSocket is a client's, which says who answered.
func (n *network) quicSocket(host int) func(payload string) string {
	n.t.Helper()
	from := netip.AddrPortFrom(n.vip.address(front, host).Addr(), 0)
	c := testnet.ListenUDP(n.t, n.client, from.String())
	return func(payload string) string {
		n.t.Helper()
		c.SetReadDeadline(time.Now().Add(testnet.AnswerWait))
		answer, err := testnet.ExchangeUDP(c, n.at(quicPort), []byte(payload))
		n.must(err)
		return string(answer)
	}
}

// TestQUICClientsKeepTheirBackends has clients of QUIC change their address and port.
func TestQUICClientsKeepTheirBackends(t *testing.T) {
	const backends, clients = 3, 10
	for _, w := range scheduled() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, backends)
			n.must(n.client.AddAddress("eth0", n.vip.address(front, otherHost)))
			var list []string
			ids := map[string]string{} // of connections, by backend
			for i, backend := range n.backends {
				nameUDP(t, backend, n.local(i, quicPort))
				list = append(list, fmt.Sprintf("{address: %q, server_id: a%d}", n.backendAddress(i), i))
				ids[backend.Name()] = string([]byte{3<<5 | 17, 0xa0 + byte(i)}) + "nonce"
			}
			n.Run(fmt.Sprintf("interfaces: [eth0]\nmode: %s\nservices:\n  - {name: quic, address: %q, protocol: udp, forward: %s, "+
				"quic: {config_id: 3, server_id_length: 1}, backends: [%s]}\n", n.mode, n.at(quicPort), n.forward, strings.Join(list, ", ")))
			for range clients {
				send := n.quicSocket(clientHost)
				backend := send("\xc3\x00\x00\x00\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff\x00initial") // it knows no id yet
				own := "\x41" + ids[backend] + "0123456789abcdef"
				for name, socket := range map[string]func(string) string{
					"the same socket": send, "another port": n.quicSocket(clientHost), "another address": n.quicSocket(otherHost),
				} {
					for range 3 {
						if got := socket(own); got != backend {
							t.Errorf("from %s: %s answered, want %s", name, got, backend)
						}
					}
				}
				for other, id := range ids { // as after a NAT has given the port to somebody else
					if got := send("\x41" + id + "0123456789abcdef"); got != other {
						t.Errorf("%s answered what is for %s", got, other)
					}
				}
			}
		})
	}
}

// TestLeastConnections has connections go to who has fewest, with and without a daemon.
func TestLeastConnections(t *testing.T) {
	const backends, each = 3, 10
	for _, w := range scheduled() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, backends)
			var list []string
			for i, backend := range n.backends {
				testnet.EchoTCP(t, backend, n.local(i, echoPort))
				list = append(list, fmt.Sprintf("{address: %q}", n.backendAddress(i)))
			}
			daemon := n.Run(fmt.Sprintf("interfaces: [eth0]\nmode: %s\nservices:\n  - {name: echo, address: %q, forward: %s, scheduler: least-conn, backends: [%s]}\n",
				n.mode, n.at(echoPort), n.forward, strings.Join(list, ", ")))
			open := map[string][]*testnet.Conversation{}
			more := func(connections int) {
				for range connections {
					c, err := testnet.Talk(n.client, netip.AddrPortFrom(n.vip.address(front, clientHost).Addr(), 0).String(), n.at(echoPort).String(), testnet.AnswerWait)
					n.must(err)
					t.Cleanup(func() { reset(c) })
					open[c.Backend] = append(open[c.Backend], c)
				}
			}
			more(backends * each)
			n.areLevel(open, each)
			daemon.Kill()
			loser := n.backends[1].Name()
			for _, c := range open[loser] {
				reset(c)
			}
			open[loser] = nil
			// two of three pairs of candidates have it, so it has caught up before that many
			more(2 * each)
			n.areLevel(open, (backends-1)*each/backends+2*each/backends)
		})
	}
}

// areLevel fails the test unless each backend has about so many connections.
func (n *network) areLevel(open map[string][]*testnet.Conversation, want int) {
	n.t.Helper()
	counts := map[string]int{}
	for _, b := range n.Status().Services[0].Backends {
		counts[b.Address.Addr().String()] = int(b.Active)
	}
	for i, backend := range n.backends {
		got := len(open[backend.Name()])
		if got < want-3 || got > want+3 {
			n.t.Errorf("%s has %d connections, want about %d", backend.Name(), got, want)
		}
		if counted := counts[n.backendAddress(i).String()]; counted != got {
			n.t.Errorf("%d flows are counted for %s, which has %d", counted, backend.Name(), got)
		}
	}
}

// Flows whose time is over are cleared, and counted no more, without a daemon.
func TestSweepNeedsNoDaemon(t *testing.T) {
	const clients, sweepTime = 5, 20 * time.Second
	n := newNetwork(t, scheduled()[0], 1)
	nameUDP(t, n.backends[0], n.local(0, quicPort))
	daemon := n.Run(fmt.Sprintf("interfaces: [eth0]\nmode: %s\ntimeouts: {udp_unconfirmed: 3s, udp_stream: 3s}\nservices:\n"+
		"  - {name: names, address: %q, protocol: udp, forward: %s, backends: [{address: %q}]}\n", n.mode, n.at(quicPort), n.forward, n.backendAddress(0)))
	daemon.Kill()
	for range clients {
		n.quicSocket(clientHost)("who is there?")
	}
	active := func() uint32 { return n.Status().Services[0].Backends[0].Active }
	if got := active(); got != clients {
		t.Errorf("%d flows are active, want %d", got, clients)
	}
	testnet.Eventually(t, sweepTime, func() error {
		if left := active(); left > 0 {
			return fmt.Errorf("%d flows are still counted", left)
		}
		return nil
	})
}
