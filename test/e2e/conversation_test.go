package e2e

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/testnet"
)

// serveTCP starts a server that says its node's name in a line, calls serve, and
// closes the connection.
func (n *network) serveTCP(node *lab.Node, address string, serve func(net.Conn)) {
	n.t.Helper()
	testnet.ServeTCP(n.t, node, address, serve)
}

// echoTCP starts a server that returns whatever it is sent.
func (n *network) echoTCP(node *lab.Node, address string) {
	n.t.Helper()
	testnet.EchoTCP(n.t, node, address)
}

// echoes starts an echo server on each backend.
func (n *network) echoes(port int) {
	n.t.Helper()
	n.echoTCP(n.backendA, fmt.Sprintf("%s:%d", addressA, port))
	n.echoTCP(n.backendB, fmt.Sprintf("%s:%d", addressB, port))
}

// talk opens a conversation through the balancer or fails the test. from is
// the address and port of the client's end, port 0 for any.
func (n *network) talk(node *lab.Node, from, vip string) *testnet.Conversation {
	n.t.Helper()
	return testnet.MustTalk(n.t, node, from, vip)
}

// stream keeps exchanging bytes over a conversation.
type stream struct {
	*testnet.Conversation
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
func (n *network) stream(c *testnet.Conversation) *stream {
	s := &stream{Conversation: c, t: n.t, ended: make(chan error, 1)}
	go func() {
		pace := time.NewTicker(streamPace)
		defer pace.Stop()
		for ; !s.quit.Load(); <-pace.C {
			if err := s.Exchange(streamChunk, testnet.AnswerWait); err != nil {
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
	testnet.Eventually(s.t, testnet.AnswerWait, func() error {
		select {
		case err := <-s.ended:
			s.t.Fatalf("the stream to %s broke after %d chunks: %v", s.Backend, s.chunks.Load(), err)
		default:
		}
		if now := s.chunks.Load(); now < goal {
			return fmt.Errorf("the stream to %s stands still at %d chunks", s.Backend, now)
		}
		return nil
	})
}

// finish ends the stream and fails the test if it was ever interrupted.
func (s *stream) finish() {
	s.t.Helper()
	s.quit.Store(true)
	if err := <-s.ended; err != nil {
		s.t.Errorf("the stream to %s broke after %d chunks: %v", s.Backend, s.chunks.Load(), err)
	}
}

// talkToBoth opens conversations until both backends are among them.
func (n *network) talkToBoth(vip string) (a, b *testnet.Conversation) {
	n.t.Helper()
	for range 100 { // all to one of two: a chance of 2^-99
		c := n.talk(n.client, clientAddress+":0", vip)
		switch {
		case c.Backend == n.backendA.Name() && a == nil:
			a = c
		case c.Backend == n.backendB.Name() && b == nil:
			b = c
		}
		if a != nil && b != nil {
			return a, b
		}
	}
	n.t.Fatal("100 connections went to one of two backends")
	return nil, nil
}
