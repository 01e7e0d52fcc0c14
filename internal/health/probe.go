package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// mostRead is how much of an answer is read, in bytes.
const mostRead = 64 << 10

// probe asks a backend once. It returns nil if the backend works, and by the end of
// ctx, with every connection closed.
type probe func(ctx context.Context, address netip.AddrPort) error

func newProbe(check lb.Check) (probe, error) {
	switch check.Type {
	case lb.CheckTCP:
		return probeTCP, nil
	case lb.CheckHTTP, lb.CheckHTTPS:
		return newHTTPProbe(check)
	case lb.CheckGRPC:
		return newGRPCProbe(check)
	case lb.CheckUDP:
		return newUDPProbe(check), nil
	}
	return nil, fmt.Errorf("there is no check of type %q", check.Type)
}

func probeTCP(ctx context.Context, address netip.AddrPort) error {
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial connects for as long as ctx lasts. Closing the connection resets it: it leaves
// nothing behind here, where otherwise every check would for a minute.
func dial(ctx context.Context, address netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{KeepAlive: -1} // it is too short
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, address)
	if err != nil {
		return nil, during("connect", err)
	}
	if err := errors.Join(conn.SetLinger(0), limit(ctx, conn)); err != nil {
		conn.Close()
		return nil, during("connect", err)
	}
	return conn, nil
}

func limit(ctx context.Context, conn net.Conn) error {
	deadline, _ := ctx.Deadline()
	return conn.SetDeadline(deadline)
}

func newUDPProbe(check lb.Check) probe {
	send, expect := []byte(check.Send), []byte(check.Expect)
	return func(ctx context.Context, address netip.AddrPort) error {
		conn, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, address)
		if err != nil {
			return during("send", err)
		}
		defer conn.Close()
		if err := limit(ctx, conn); err != nil {
			return during("send", err)
		}
		if _, err := conn.Write(send); err != nil {
			return during("send", err)
		}
		answer := make([]byte, mostRead)
		n, err := conn.Read(answer)
		if err != nil {
			return during("receive", err)
		}
		if !bytes.Contains(answer[:n], expect) {
			return errors.New("the answer does not contain what is expected")
		}
		return nil
	}
}
