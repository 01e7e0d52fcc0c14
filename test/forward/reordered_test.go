package forward

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// orders are how a network may deliver the fragments of a datagram.
func orders() map[string]testnet.Order {
	shuffled := func(frames [][]byte) [][]byte {
		frames = slices.Clone(frames)
		rand.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		return frames
	}
	return map[string]testnet.Order{
		"as sent": func(frames [][]byte) [][]byte { return frames },
		"the last first": func(frames [][]byte) [][]byte {
			frames = slices.Clone(frames)
			slices.Reverse(frames)
			return frames
		},
		"the first last": func(frames [][]byte) [][]byte { return append(slices.Clone(frames[1:]), frames[0]) },
		"shuffled":       shuffled,
		"each twice": func(frames [][]byte) (twice [][]byte) {
			for _, frame := range frames {
				twice = append(twice, frame, frame)
			}
			return twice
		},
		"all twice and shuffled": func(frames [][]byte) [][]byte { return shuffled(append(slices.Clone(frames), frames...)) },
	}
}

// largestUDP is what a datagram over IPv4 carries at most, in bytes.
const largestUDP = 65535 - 20 - 8

// TestFragmentsInAnyOrder: what does not fit a packet goes both ways in fragments,
// and the network between delivers them as it likes. The relays at both ends of
// the balancer are that network; the ends are real stacks.
func TestFragmentsInAnyOrder(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if !w.twoArm {
			continue
		}
		w.relayed = true
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			testnet.EchoUDP(t, n.backends[0], n.local(0, echoPort))
			n.Run(n.config())
			asker := n.newAsker()
			for name, order := range orders() {
				n.reorder(order)
				for _, size := range []int{1473, 1481, 2953, 8000, 30001, largestUDP} {
					if err := asker.ask(size); err != nil {
						t.Fatalf("%d bytes, %s: %v", size, name, err)
					}
				}
			}
			n.checkFragmentReasons()
		})
	}
}

// TestFragmentsForTheHostItself: what is for another port of the VIP is the
// kernel's, in whatever order it comes.
func TestFragmentsForTheHostItself(t *testing.T) {
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		for _, f := range []family{v4, v6} {
			w := way{forward: lb.ForwardNAT, vip: f, backend: f, relayed: true, mode: mode}
			t.Run(w.String()+", "+string(mode), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				testnet.EchoUDP(t, n.Node, n.at(echoPort).String())
				n.Run(fmt.Sprintf("interfaces: [eth0]\nmode: %s\nservices: [{name: web, address: %q, protocol: udp, backends: [{address: %q}]}]\n",
					mode, n.at(80), netip.AddrPortFrom(n.backendAddress(0), 80)))
				asker := n.newAsker()
				for name, order := range orders() {
					n.reorder(order)
					for _, size := range []int{1473, 30001} {
						if err := asker.ask(size); err != nil {
							t.Errorf("%d bytes, %s: %v", size, name, err)
						}
					}
				}
			})
		}
	}
}

// TestFragmentsOfManyClients: they come from several at once, mixed.
func TestFragmentsOfManyClients(t *testing.T) {
	const clients, datagrams, size = 4, 5, 20_000
	for _, w := range []way{
		{forward: lb.ForwardNAT, vip: v4, backend: v4, mode: lb.ModeGeneric},
		{forward: lb.ForwardNAT, vip: v6, backend: v6, mode: lb.ModeGeneric},
		{forward: lb.ForwardNAT, vip: v4, backend: v4, twoArm: true, mode: lb.ModeNative},
		{forward: lb.ForwardIPIP, vip: v6, backend: v4, twoArm: true, mode: lb.ModeNative},
	} {
		t.Run(w.String()+", "+string(w.mode), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 2)
			for i, backend := range n.backends {
				testnet.EchoUDP(t, backend, n.local(i, echoPort))
			}
			n.Run(n.config())
			errs := make(chan error, clients)
			for range clients {
				asker := n.newAsker()
				go func() { errs <- asker.askOften(datagrams, size) }()
			}
			for range clients {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			n.checkFragmentReasons()
		})
	}
}

// TestLargestDatagrams: none is lost, with and, over IPv4, without checksums.
func TestLargestDatagrams(t *testing.T) {
	const datagrams = 100
	for _, w := range ways(lb.ModeNative, lb.ForwardNAT, lb.ForwardIPIP) {
		if w.twoArm != w.forward.Tunnels() { // one link has one MTU, and answers go without a tunnel
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			testnet.EchoUDP(t, n.backends[0], n.local(0, echoPort))
			n.Run(n.config())
			n.must(n.newAsker().askOften(datagrams, largestUDP))
			if w.vip == v4 && (w.backend == v4 || w.forward == lb.ForwardIPIP) { // RFC 7915, 4.5: they cannot be translated
				n.must(n.newAsker(testnet.WithoutChecksums).askOften(datagrams/10, largestUDP))
			}
			n.checkFragmentReasons()
		})
	}
}

// TestFragmentsThatFillTheTunnel: the links toward the backends have no room for
// outer headers. What may not be fragmented, as all of IPv6, is lost until its sender
// has learned how large a packet may be. Then nothing is.
func TestFragmentsThatFillTheTunnel(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.ForwardIPIP, lb.ForwardGUE) {
		if w.twoArm == (w.vip == w.backend) {
			continue
		}
		w.tight = true
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			testnet.EchoUDP(t, n.backends[0], n.local(0, echoPort))
			n.Run(n.config())
			asker := n.newAsker()
			asker.learnPathMTU()
			for range 20 {
				for _, size := range []int{1400, 1472, 1473, 9000, largestUDP} {
					n.must(asker.ask(size))
				}
			}
			n.checkTunnels()
		})
	}
}

// asker is a client's socket that wants every datagram back.
type asker struct {
	*network
	socket *net.UDPConn
	last   []byte // what came back before
}

func (n *network) newAsker(options ...func(*net.UDPConn) error) *asker {
	n.t.Helper()
	from := netip.AddrPortFrom(n.clientAddress(), 0).String()
	return &asker{network: n, socket: testnet.ListenUDP(n.t, n.client, from, options...)}
}

// ask wants a datagram of that size to come back as it went. What came back before
// may come once more: fragments that were all delivered twice can make two
// datagrams.
func (a *asker) ask(size int) error {
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	got, err := testnet.ExchangeUDP(a.socket, a.at(echoPort), sent)
	for err == nil && bytes.Equal(got, a.last) {
		got, err = testnet.ReceiveUDP(a.socket, a.at(echoPort))
	}
	if err == nil && !bytes.Equal(got, sent) {
		err = fmt.Errorf("%d bytes came back as %d others", size, len(got))
	}
	a.last = sent
	return err
}

func (a *asker) askOften(times, size int) error {
	for i := range times {
		if err := a.ask(size); err != nil {
			return fmt.Errorf("datagram %d of %d: %w", i+1, times, err)
		}
	}
	return nil
}

// learnPathMTU sends what may be too large for the path until it is not.
func (a *asker) learnPathMTU() {
	a.t.Helper()
	fillsEthernet := 1500 - headerOf(a.vip) - 8
	testnet.Eventually(a.t, testnet.AnswerWait, func() error {
		a.socket.WriteToUDPAddrPort(make([]byte, fillsEthernet), a.at(echoPort))
		a.socket.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := a.socket.Read(make([]byte, fillsEthernet))
		return err
	})
}

func (n *network) reorder(order testnet.Order) {
	for _, relay := range n.relays {
		relay.Reorder(order)
	}
}

// checkFragmentReasons wants no fragment to have ended otherwise than was meant.
func (n *network) checkFragmentReasons() {
	n.t.Helper()
	fine := []string{"new-flow", "forwarded", "reply", "fragment-held", "fragment-duplicate"}
	s := n.Status()
	for _, r := range s.Reasons {
		if r.Service != "" && r.Packets > 0 && !slices.Contains(fine, r.Reason) {
			n.t.Errorf("%d packets of %s: %s", r.Packets, r.Service, r.Reason)
		}
	}
	if held := testnet.Packets(s, "", "fragment-held"); n.relayed != (held > 0) {
		n.t.Errorf("%d fragments were held", held)
	}
	n.checkTunnels()
	testnet.CheckChecksums(n.t, append(n.backends, n.client)...)
}
