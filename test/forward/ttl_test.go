package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/test/testnet"
)

// checkTTL sends a datagram that has one hop left, of a new flow and of a known
// one. A balancer that rewrites packets is a router to them; one that only sends
// them on, or encapsulates them, is not. It returns how many TTLs expired.
func (n *network) checkTTL() (expired uint64) {
	n.t.Helper()
	c, err := n.client.DialContext(n.t.Context(), "udp", n.at(echoPort).String())
	n.must(err)
	defer c.Close()
	socket := c.(*net.UDPConn)
	level, ttl, recvErr := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVERR
	if n.vip == v6 {
		level, ttl, recvErr = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR
	}
	n.must(testnet.SetOption(socket, level, recvErr, 1))
	for _, hops := range []int{1, 64, 1, 64} {
		n.must(testnet.SetOption(socket, level, ttl, hops))
		if hops == 1 && n.forward.Translates() {
			n.must(wantTimeExceeded(socket, n.vipAddress()))
			expired++
			continue
		}
		n.must(wantEcho(socket))
	}
	return expired
}

// send sends a datagram and reads what comes back.
func send(socket *net.UDPConn) (answer []byte, err error) {
	if _, err := socket.Write([]byte("anybody?")); err != nil {
		return nil, err
	}
	socket.SetReadDeadline(time.Now().Add(testnet.AnswerWait))
	buffer := make([]byte, 100)
	size, err := socket.Read(buffer)
	return buffer[:size], err
}

func wantEcho(socket *net.UDPConn) error {
	answer, err := send(socket)
	if err == nil && string(answer) != "anybody?" {
		err = fmt.Errorf("%q came back", answer)
	}
	return err
}

// wantTimeExceeded wants the kernel to take an ICMP error for one about the
// datagram: "time to live exceeded in transit" (RFC 792; RFC 4443, section 3.3).
func wantTimeExceeded(socket *net.UDPConn, by netip.Addr) error {
	if answer, err := send(socket); !errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("a packet with one hop left brought %q, %v", answer, err)
	}
	control, err := readErrorQueue(socket)
	if err != nil {
		return fmt.Errorf("reading the error: %w", err)
	}
	want := icmpError{unix.SO_EE_ORIGIN_ICMP, 11, 0, by}
	if by.Is6() {
		want = icmpError{unix.SO_EE_ORIGIN_ICMP6, 3, 0, by}
	}
	if got := readICMPError(control); got != want {
		return fmt.Errorf("the error is %+v, want %+v", got, want)
	}
	return nil
}

// readErrorQueue returns the control message of an error (ip(7), IP_RECVERR).
func readErrorQueue(socket *net.UDPConn) ([]byte, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	control := make([]byte, 512)
	var size int
	var recvErr error
	err = raw.Control(func(fd uintptr) {
		_, size, _, _, recvErr = unix.Recvmsg(int(fd), make([]byte, 100), control, unix.MSG_ERRQUEUE)
	})
	if err = errors.Join(err, recvErr); err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Type == unix.IP_RECVERR || m.Header.Type == unix.IPV6_RECVERR {
			return m.Data, nil
		}
	}
	return nil, errors.New("there is none")
}

// icmpError is a struct sock_extended_err of linux/errqueue.h.
type icmpError struct {
	origin, kind, code uint8
	by                 netip.Addr
}

func readICMPError(b []byte) (e icmpError) {
	const size = 16
	if len(b) < size+8 {
		return e
	}
	e.origin, e.kind, e.code = b[4], b[5], b[6]
	offender := b[size:] // struct sockaddr_in, or _in6
	switch {
	case binary.NativeEndian.Uint16(offender) == unix.AF_INET:
		e.by, _ = netip.AddrFromSlice(offender[4:8])
	case len(offender) >= 24:
		e.by, _ = netip.AddrFromSlice(offender[8:24])
	}
	return e
}
