package testnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
)

// largestDatagram is what a buffer for one holds, in bytes.
const largestDatagram = 1 << 16

// ListenUDP opens a socket on a node. It is closed after the test.
func ListenUDP(t testing.TB, node *lab.Node, address string, options ...func(*net.UDPConn) error) *net.UDPConn {
	t.Helper()
	packets, err := node.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	c := packets.(*net.UDPConn)
	for _, set := range options {
		if err := set(c); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// WithoutChecksums is an option of ListenUDP, for IPv4.
func WithoutChecksums(c *net.UDPConn) error {
	return SetOption(c, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
}

// MayBeFragmented is an option of ListenUDP, for IPv4: datagrams leave without DF.
func MayBeFragmented(c *net.UDPConn) error {
	return SetOption(c, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
}

// SetOption sets a socket option, setsockopt(2).
func SetOption(c syscall.Conn, level, name, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), level, name, value) })
	return errors.Join(err, setErr)
}

// EchoUDP starts a server that returns each datagram; an empty one is answered
// with the node's name.
func EchoUDP(t testing.TB, node *lab.Node, address string, options ...func(*net.UDPConn) error) {
	t.Helper()
	c := ListenUDP(t, node, address, options...)
	go func() {
		buffer := make([]byte, largestDatagram)
		for {
			size, from, err := c.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // an ICMP error came in
				continue
			}
			answer := buffer[:size]
			if size == 0 {
				answer = []byte(node.Name())
			}
			c.WriteToUDPAddrPort(answer, from)
		}
	}()
}

// ExchangeUDP sends a datagram and returns the answer, which must come from
// where it was sent to.
func ExchangeUDP(c *net.UDPConn, to netip.AddrPort, sent []byte) ([]byte, error) {
	if _, err := c.WriteToUDPAddrPort(sent, to); err != nil {
		return nil, err
	}
	return ReceiveUDP(c, to)
}

// ReceiveUDP returns the next datagram, which must come from a certain address.
func ReceiveUDP(c *net.UDPConn, to netip.AddrPort) ([]byte, error) {
	buffer := make([]byte, largestDatagram)
	c.SetReadDeadline(time.Now().Add(AnswerWait))
	size, from, err := c.ReadFromUDPAddrPort(buffer)
	if err != nil {
		return nil, fmt.Errorf("wait for a datagram: %w", err)
	}
	if from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); from != to {
		return nil, fmt.Errorf("the answer came from %s, want %s", from, to)
	}
	return buffer[:size], nil
}
