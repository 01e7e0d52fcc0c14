package forward

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	reversedPort = 9
)

// checkReversed exchanges datagrams of up to 64 KB with the first backend: as the kernels cut them, and from the last fragment to
// the first, both ways where both pass the balancer, from one processor and from two.
func (n *network) checkReversed() {
	n.t.Helper()
	socket := testnet.ListenUDP(n.t, n.client, netip.AddrPortFrom(n.vip.address(front, clientHost).Addr(), 0).String())
	n.echoReversed()
	for _, size := range []int{1600, 9000, 65000} {
		sent := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(size)}).Read(sent)
		for what, exchange := range map[string]func() ([]byte, error){
			"in order":    func() ([]byte, error) { return testnet.ExchangeUDP(socket, n.at(echoPort), sent) },
			"reversed":    func() ([]byte, error) { return n.exchangeReversed(socket, sent) },
			"on two CPUs": func() ([]byte, error) { return n.exchangeReversed(socket, sent, 0, 1) },
		} {
			got, err := exchange()
			if err != nil || !bytes.Equal(got, sent) {
				n.t.Errorf("%d bytes %s came back as %d others: %v", size, what, len(got), err)
			}
		}
	}
}

// macOf is the MAC of a node's interface.
func (n *network) macOf(node *lab.Node, ifname string) lb.MAC {
	n.t.Helper()
	link, err := node.Interface(ifname)
	n.must(err)
	return lb.MAC(link.HardwareAddr)
}

func (n *network) exchangeReversed(socket *net.UDPConn, sent []byte, processors ...int) ([]byte, error) {
	port := uint16(reversedPort)
	if !n.forward.Translates() { // answers go past the balancer
		port = echoPort
	}
	local := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	p := packet.NewUDP(local, n.at(port), string(sent))
	p.SrcMAC, p.DstMAC = n.macOf(n.client, "eth0"), n.macOf(n.Node, "eth0")
	testnet.SendFrames(n.t, n.client, "eth0", reversed(p), processors...)
	return testnet.ReceiveUDP(socket, n.at(port))
}

// reversed are the fragments of a datagram, the last one first.
func reversed(p packet.Packet) [][]byte {
	frames := packet.Cut(p.Frame(), 1340, rand.Uint32())
	slices.Reverse(frames)
	return frames
}

// echoReversed has the first backend answer datagrams with reversed fragments.
func (n *network) echoReversed() {
	n.t.Helper()
	if !n.forward.Translates() {
		return
	}
	backend, ifname := n.backends[0], "eth0"
	if n.twoArm {
		ifname = "eth1"
	}
	from, to := n.macOf(backend, "eth0"), n.macOf(n.Node, ifname)
	local := netip.AddrPortFrom(n.serving(0), reversedPort)
	socket := testnet.ListenUDP(n.t, backend, local.String())
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			size, client, err := socket.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
			answer := packet.NewUDP(local, client, string(buffer[:size]))
			answer.SrcMAC, answer.DstMAC = from, to
			testnet.SendFrames(n.t, backend, "eth0", reversed(answer))
		}
	}()
}
