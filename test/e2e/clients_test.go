package e2e

import (
	"io"
	"net"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// The clients of these tests use the same source port, so only their addresses
// tell their connections apart until the balancer gives each a port of its own.
const sharedPort = ":40000"

const (
	secondClient = "192.17.0.6"
	echoVIP      = balancerAddress + ":7"
)

func TestTwoMachinesUseTheSameSourcePortAtTheSameTime(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		other := n.machine("client-2", secondClient)
		n.oneEcho()
		n.alternate(
			n.talk(n.client, clientAddress+sharedPort, echoVIP),
			n.talk(other, secondClient+sharedPort, echoVIP))
	})
}

func TestTwoAddressesOfOneMachineUseTheSameSourcePortAtTheSameTime(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		if err := n.client.AddAddress("eth0", prefixes(secondClient)...); err != nil {
			t.Fatal(err)
		}
		n.oneEcho()
		n.alternate(
			n.talk(n.client, clientAddress+sharedPort, echoVIP),
			n.talk(n.client, secondClient+sharedPort, echoVIP))
	})
}

func TestClientUsesItsPortAgainAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("after the server closed", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, mode lb.Mode) {
			n := newNetwork(t, mode)
			n.serveTCP(n.backendA, addressA+":7", func(net.Conn) {}) // closes at once
			n.Run(n.config(service("echo", "tcp", echoVIP, "{name: backend-a, address: "+addressA+":7}")))
			for range 20 {
				var c *testnet.Conversation
				testnet.Eventually(t, testnet.AnswerWait, func() (err error) { // the last one's FIN is still on its way
					c, err = testnet.Talk(n.client, clientAddress+sharedPort, echoVIP, testnet.AnswerWait)
					return err
				})
				io.Copy(io.Discard, c.Conn) // the server's FIN first: no TIME_WAIT here
				c.Conn.Close()
			}
		})
	})
	t.Run("after a reset", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, mode lb.Mode) {
			n := newNetwork(t, mode)
			n.oneEcho()
			for range 20 {
				c := n.talk(n.client, clientAddress+sharedPort, echoVIP)
				c.MustExchange(t, 1000)
				c.Conn.SetLinger(0) // RST instead of FIN
				c.Conn.Close()
			}
		})
	})
}

// oneEcho serves echoVIP with one backend only: two connections that the
// balancer confused would meet there.
func (n *network) oneEcho() {
	n.t.Helper()
	n.echoTCP(n.backendA, addressA+":7")
	n.Run(n.config(service("echo", "tcp", echoVIP, "{name: backend-a, address: "+addressA+":7}")))
}

// alternate exchanges bytes over both conversations in turn, both open all the while.
func (n *network) alternate(first, second *testnet.Conversation) {
	n.t.Helper()
	for range 20 {
		first.MustExchange(n.t, 20_000)
		second.MustExchange(n.t, 20_000)
	}
}
