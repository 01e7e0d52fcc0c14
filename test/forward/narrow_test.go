package forward

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// TestNarrow: all links have an MTU of 1500, so what fills a client's packets does not fit
// into a tunnel's. Clients learn that, and what may be fragmented is.
func TestNarrow(t *testing.T) {
	file := makeNoise(t)
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		for _, w := range ways(mode, lb.ForwardIPIP, lb.ForwardGUE) {
			w.tight = true
			if mode == lb.ModeGeneric && (w.vip != w.backend || !w.twoArm) {
				continue
			}
			t.Run(string(mode)+" "+w.String(), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				if mode == lb.ModeGeneric {
					n.segmentInSoftware(append(n.backends, n.client)...)
				}
				n.serve(file)
				n.Run(n.config())
				if w.vip == v4 && mode == lb.ModeNative { // before the client's kernel learns that it has to cut them itself
					n.checkTunnelledFragments()
				}
				n.transfer(file)
				if told := testnet.Packets(n.Status(), "web", "mtu-exceeded"); told == 0 {
					t.Error("nobody was told how large packets may be")
				}
				n.checkTunnels()
			})
		}
	}
}

// checkTunnelledFragments sends datagrams that may be fragmented, and have to be.
func (n *network) checkTunnelledFragments() {
	n.t.Helper()
	from := netip.AddrPortFrom(n.vip.address(front, clientHost).Addr(), 0).String()
	socket := testnet.ListenUDP(n.t, n.client, from, testnet.MayBeFragmented)
	const largest = 1500 - 20 - 8
	for size := largest - 60; size <= largest; size++ {
		sent := bytes.Repeat([]byte{0xa5, byte(size)}, size/2+1)[:size]
		got, err := testnet.ExchangeUDP(socket, n.at(echoPort), sent)
		n.must(err)
		if !bytes.Equal(got, sent) {
			n.t.Errorf("%d bytes came back as %d others", size, len(got))
		}
	}
}

// TestReject: who comes while there is no backend to send to learns that at once.
func TestReject(t *testing.T) {
	const hasty = 5 * time.Second // a connection that nobody refuses takes minutes to fail
	for _, forward := range lb.Forwards() {
		for _, f := range []family{v4, v6} {
			w := way{forward: forward, vip: f, backend: f, twoArm: true, mode: lb.ModeNative}
			t.Run(w.String(), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				n.Run(n.config())
				n.must(n.backends[0].SetDown("eth0"))
				n.awaitUnusable()
				begin := time.Now()
				if _, err := testnet.Ask(t, n.client, n.url("/"), 0); err == nil {
					t.Error("somebody answered")
				}
				conn, err := n.client.DialContext(t.Context(), "tcp", n.at(80).String())
				if !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("TCP: %v, want %v", err, unix.ECONNREFUSED)
				}
				if conn != nil {
					conn.Close()
				}
				if err := n.askUDP(); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("UDP: %v, want %v", err, unix.ECONNREFUSED)
				}
				if took := time.Since(begin); took > hasty {
					t.Errorf("it took %v until all were refused", took)
				}
			})
		}
	}
}

// awaitUnusable waits until the balancer knows that the backend is gone.
func (n *network) awaitUnusable() {
	n.t.Helper()
	testnet.Eventually(n.t, testnet.DaemonWait, func() error {
		for _, s := range n.Status().Services {
			for _, b := range s.Backends {
				if b.Usable {
					return fmt.Errorf("backend %s of %s is usable", b.Address, s.Name)
				}
			}
		}
		return nil
	})
}

// askUDP says what becomes of a question on a connected socket.
func (n *network) askUDP() error {
	conn, err := n.client.DialContext(n.t.Context(), "udp", n.at(echoPort).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("question")); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(testnet.AnswerWait))
	_, err = conn.(*net.UDPConn).Read(make([]byte, 100))
	return err
}
