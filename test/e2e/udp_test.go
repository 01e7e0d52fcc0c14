package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
)

const (
	udpVIP = balancerAddress + ":53"
	// largestDatagram fills an Ethernet frame: MTU without IPv4 and UDP headers.
	largestDatagram = 1500 - 20 - 8
)

func TestUDPRequestAndAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		open func(*net.UDPConn) error // done to the sockets at both ends
	}{
		{"with checksums", func(*net.UDPConn) error { return nil }},
		{"without checksums", withoutChecksums},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.echoUDP(n.backendA, addressA+":53", test.open)
				n.echoUDP(n.backendB, addressB+":53", test.open)
				n.run(n.config(service("dns", "udp", udpVIP)))

				backends := map[string]int{}
				for i := range 40 {
					client := n.listenUDP(n.client, clientAddress+":0", test.open)
					for _, size := range []int{0, 1, 2, 17, 512, 1232, largestDatagram - 1 - i, largestDatagram} {
						backends[n.askUDP(client, size)]++
					}
				}
				if len(backends) != 2 {
					t.Errorf("the answers came from %v, want both backends", backends)
				}
				n.checkChecksums()
			})
		})
	}
}

func withoutChecksums(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) { setErr = syscall.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	if err != nil {
		return err
	}
	return setErr
}

func (n *network) listenUDP(node *lab.Node, address string, open func(*net.UDPConn) error) *net.UDPConn {
	n.t.Helper()
	packets, err := node.ListenPacket("udp4", address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { packets.Close() })
	c := packets.(*net.UDPConn)
	if err := open(c); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// echoUDP starts a server that returns each datagram. One too small to be from
// askUDP is answered with the node's name.
func (n *network) echoUDP(node *lab.Node, address string, open func(*net.UDPConn) error) {
	n.t.Helper()
	c := n.listenUDP(node, address, open)
	go func() {
		buffer := make([]byte, largestDatagram)
		for {
			size, from, err := c.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			answer := buffer[:size]
			if size == 0 {
				answer = []byte(node.Name())
			}
			c.WriteToUDPAddrPort(answer, from)
		}
	}()
}

// askUDP sends a datagram of that size and checks that it comes back, from the
// VIP. It returns the name of the backend that answers on this flow.
func (n *network) askUDP(c *net.UDPConn, size int) string {
	n.t.Helper()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	if got := n.exchangeUDP(c, sent); size > 0 && !bytes.Equal(sent, got) {
		n.t.Fatalf("%d bytes came back as %d others", size, len(got))
	}
	return string(n.exchangeUDP(c, nil))
}

func (n *network) exchangeUDP(c *net.UDPConn, sent []byte) []byte {
	n.t.Helper()
	vip := addrPort(udpVIP)
	if _, err := c.WriteToUDPAddrPort(sent, vip); err != nil {
		n.t.Fatal(err)
	}
	buffer := make([]byte, 2*largestDatagram)
	c.SetReadDeadline(time.Now().Add(answerWait))
	size, from, err := c.ReadFromUDPAddrPort(buffer)
	if err != nil {
		n.t.Fatal(fmt.Errorf("the answer to %d bytes: %w", len(sent), err))
	}
	if from != vip {
		n.t.Errorf("the answer came from %s, want %s", from, vip)
	}
	return buffer[:size]
}
