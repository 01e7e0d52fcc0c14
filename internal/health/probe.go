package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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

// dial connects. Closing the connection resets it: it leaves nothing behind here, where
// otherwise every check would for a minute.
func dial(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1} // it is too short
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, address)
	if err != nil {
		return nil, during("connect", err)
	}
	if err := conn.SetLinger(0); err != nil {
		conn.Close()
		return nil, during("connect", err)
	}
	return endWith(ctx, conn), nil
}

// connection is one that ends with a context.
type connection struct {
	net.Conn
	release func() bool
}

// endWith makes what is read or written when ctx ends fail as after a deadline.
func endWith(ctx context.Context, conn net.Conn) connection {
	return connection{conn, context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })} // fails only for one that is closed
}

func (c connection) Close() error {
	c.release()
	return c.Conn.Close()
}

func newUDPProbe(check lb.Check) probe {
	send, expect := []byte(check.Send), []byte(check.Expect)
	return func(ctx context.Context, address netip.AddrPort) error {
		udp, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, address)
		if err != nil {
			return during("send", err)
		}
		conn := endWith(ctx, udp)
		defer conn.Close()
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
