package testnet

import (
	"bufio"
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
)

// ServeTCP starts a server that says its node's name in a line, calls serve, and
// closes the connection.
func ServeTCP(t testing.TB, node *lab.Node, address string, serve func(net.Conn)) {
	t.Helper()
	listener, err := node.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { c.Close() }) // when the test ends
			go func() {
				defer c.Close()
				c.(*net.TCPConn).SetKeepAlive(false) // an idle connection must be idle
				if _, err := fmt.Fprintln(c, node.Name()); err == nil {
					serve(c)
				}
			}()
		}
	}()
}

// EchoTCP is a server of ServeTCP that returns whatever it is sent.
func EchoTCP(t testing.TB, node *lab.Node, address string) {
	t.Helper()
	ServeTCP(t, node, address, func(c net.Conn) { io.Copy(c, c) })
}

// Conversation is a connection to a server of EchoTCP that checks every byte.
type Conversation struct {
	Conn    *net.TCPConn
	Backend string // who greeted
	reader  *bufio.Reader
	bytes   *rand.ChaCha8
}

// AcknowledgeNow sends the acknowledgement that the kernel may hold back for up to
// 40 ms (TCP_QUICKACK in tcp(7)): nothing more comes from this end until it exchanges.
func (c *Conversation) AcknowledgeNow() error {
	raw, err := c.Conn.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	return errors.Join(err, setErr)
}

// sharePort lets connections to several servers have one port.
func sharePort(_, _ string, raw syscall.RawConn) error {
	var setErr error
	err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, setErr)
}

// Talk opens a conversation from a node's address and port, port 0 for any. It
// fails if there is no greeting in time.
func Talk(node *lab.Node, from, vip string, within time.Duration) (*Conversation, error) {
	local, err := netip.ParseAddrPort(from)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), KeepAlive: -1, Timeout: within, Control: sharePort}
	var seed [32]byte
	cryptorand.Read(seed[:]) // other bytes for each: one connection's must not do for another's
	c := &Conversation{bytes: rand.NewChaCha8(seed)}
	err = node.Do(func() error {
		conn, err := dialer.DialContext(context.Background(), "tcp", vip)
		if err == nil {
			c.Conn = conn.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.reader = bufio.NewReader(c.Conn)
	c.Conn.SetReadDeadline(time.Now().Add(within))
	name, err := c.reader.ReadString('\n')
	if err != nil {
		c.Conn.Close()
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	c.Backend = strings.TrimSpace(name)
	return c, nil
}

// MustTalk is Talk for a test, which fails when it does and closes the
// connection at its end.
func MustTalk(t testing.TB, node *lab.Node, from, vip string) *Conversation {
	t.Helper()
	c, err := Talk(node, from, vip, AnswerWait)
	if err != nil {
		t.Fatalf("from %s of %s to %s: %v", from, node.Name(), vip, err)
	}
	t.Cleanup(func() { c.Conn.Close() })
	return c
}

// Exchange sends so many bytes, which nobody can guess, and checks that they come back.
func (c *Conversation) Exchange(size int, within time.Duration) error {
	sent, got := make([]byte, size), make([]byte, size)
	c.bytes.Read(sent)
	c.Conn.SetDeadline(time.Now().Add(within))
	written := make(chan error, 1)
	go func() {
		_, err := c.Conn.Write(sent)
		written <- err
	}()
	if _, err := io.ReadFull(c.reader, got); err != nil {
		// a reset meets only one of the two
		return errors.Join(fmt.Errorf("reading the echo of %d bytes: %w", size, err), <-written)
	}
	if !bytes.Equal(sent, got) {
		return fmt.Errorf("%d bytes came back changed", size)
	}
	return <-written
}

// MustExchange fails the test when an exchange does.
func (c *Conversation) MustExchange(t testing.TB, size int) {
	t.Helper()
	if err := c.Exchange(size, AnswerWait); err != nil {
		t.Fatalf("connection to %s: %v", c.Backend, err)
	}
}
