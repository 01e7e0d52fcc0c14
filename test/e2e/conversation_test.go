package e2e

import (
	"bufio"
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
)

// answerWait is for an answer that takes well under a second when no packet is lost.
const answerWait = 20 * time.Second

// echoTCP starts a server that returns whatever it is sent.
func (n *network) echoTCP(node *lab.Node, address string) {
	n.t.Helper()
	n.serveTCP(node, address, func(c net.Conn) { io.Copy(c, c) })
}

// serveTCP starts a server that says its node's name in a line, calls serve, and
// closes the connection.
func (n *network) serveTCP(node *lab.Node, address string, serve func(net.Conn)) {
	n.t.Helper()
	listener, err := node.Listen("tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(n.t.Context(), func() { c.Close() }) // when the test ends
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

// echoes starts an echo server on each backend.
func (n *network) echoes(port int) {
	n.t.Helper()
	n.echoTCP(n.backendA, fmt.Sprintf("%s:%d", addressA, port))
	n.echoTCP(n.backendB, fmt.Sprintf("%s:%d", addressB, port))
}

// conversation is a connection to an echo server that checks every byte.
type conversation struct {
	conn    *net.TCPConn
	reader  *bufio.Reader
	backend string // who greeted
	bytes   *rand.ChaCha8
}

// talk opens a conversation through the balancer or fails the test. from is
// the address and port of the client's end, port 0 for any.
func (n *network) talk(node *lab.Node, from, vip string) *conversation {
	n.t.Helper()
	c, err := openConversation(node, from, vip, answerWait)
	if err != nil {
		n.t.Fatalf("from %s of %s to %s: %v", from, node.Name(), vip, err)
	}
	n.t.Cleanup(func() { c.conn.Close() })
	return c
}

func openConversation(node *lab.Node, from, vip string, within time.Duration) (*conversation, error) {
	local := net.TCPAddrFromAddrPort(addrPort(from))
	dialer := net.Dialer{LocalAddr: local, KeepAlive: -1, Timeout: within}
	var seed [32]byte
	cryptorand.Read(seed[:]) // other bytes for each: one connection's must not do for another's
	c := &conversation{bytes: rand.NewChaCha8(seed)}
	err := node.Do(func() error {
		conn, err := dialer.DialContext(context.Background(), "tcp4", vip)
		if err == nil {
			c.conn = conn.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.reader = bufio.NewReader(c.conn)
	c.conn.SetReadDeadline(time.Now().Add(within))
	name, err := c.reader.ReadString('\n')
	if err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	c.backend = strings.TrimSpace(name)
	return c, nil
}

// exchange sends so many bytes, which nobody can guess, and checks that they come back.
func (c *conversation) exchange(size int, within time.Duration) error {
	sent, got := make([]byte, size), make([]byte, size)
	c.bytes.Read(sent)
	c.conn.SetDeadline(time.Now().Add(within))
	written := make(chan error, 1)
	go func() {
		_, err := c.conn.Write(sent)
		written <- err
	}()
	if _, err := io.ReadFull(c.reader, got); err != nil {
		return fmt.Errorf("reading the echo of %d bytes: %w", size, err)
	}
	if !bytes.Equal(sent, got) {
		return fmt.Errorf("%d bytes came back changed", size)
	}
	return <-written
}

// mustExchange fails the test when an exchange does.
func (c *conversation) mustExchange(t *testing.T, size int) {
	t.Helper()
	if err := c.exchange(size, answerWait); err != nil {
		t.Fatalf("connection to %s: %v", c.backend, err)
	}
}

// stream keeps exchanging bytes over a conversation.
type stream struct {
	*conversation
	t      *testing.T
	chunks atomic.Int64 // exchanged
	quit   atomic.Bool
	ended  chan error
}

// streamChunk is the size of one exchange, in bytes; streamPace is how often
// there is one, so that the stream leaves the processors to others.
const (
	streamChunk = 32 << 10
	streamPace  = 5 * time.Millisecond
)

// stream keeps the conversation busy until the test ends.
func (n *network) stream(c *conversation) *stream {
	s := &stream{conversation: c, t: n.t, ended: make(chan error, 1)}
	go func() {
		pace := time.NewTicker(streamPace)
		defer pace.Stop()
		for ; !s.quit.Load(); <-pace.C {
			if err := s.exchange(streamChunk, answerWait); err != nil {
				s.ended <- err
				return
			}
			s.chunks.Add(1)
		}
		s.ended <- nil
	}()
	n.t.Cleanup(func() { s.quit.Store(true) })
	return s
}

// flows checks that the stream goes on.
func (s *stream) flows() {
	s.t.Helper()
	goal := s.chunks.Load() + 10
	eventually(s.t, answerWait, func() error {
		select {
		case err := <-s.ended:
			s.t.Fatalf("the stream to %s broke after %d chunks: %v", s.backend, s.chunks.Load(), err)
		default:
		}
		if now := s.chunks.Load(); now < goal {
			return fmt.Errorf("the stream to %s stands still at %d chunks", s.backend, now)
		}
		return nil
	})
}

// finish ends the stream and fails the test if it was ever interrupted.
func (s *stream) finish() {
	s.t.Helper()
	s.quit.Store(true)
	if err := <-s.ended; err != nil {
		s.t.Errorf("the stream to %s broke after %d chunks: %v", s.backend, s.chunks.Load(), err)
	}
}

// talkToBoth opens conversations until both backends are among them.
func (n *network) talkToBoth(vip string) (a, b *conversation) {
	n.t.Helper()
	for range 100 { // all to one of two: a chance of 2^-99
		c := n.talk(n.client, clientAddress+":0", vip)
		switch {
		case c.backend == n.backendA.Name() && a == nil:
			a = c
		case c.backend == n.backendB.Name() && b == nil:
			b = c
		}
		if a != nil && b != nil {
			return a, b
		}
	}
	n.t.Fatal("100 connections went to one of two backends")
	return nil, nil
}
