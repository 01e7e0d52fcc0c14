package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	// macNoticed is how soon new connections must reach a backend that has
	// silently got another MAC.
	macNoticed = 12 * time.Second
	// retransmitted is how soon a connection that lost packets all that time
	// goes on: TCP doubles its pauses (RFC 6298, 5.5).
	retransmitted = 30 * time.Second
	// announcedNoticed is the same for a backend that announces its new MAC.
	announcedNoticed = 3 * time.Second
)

func newMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee} }

func TestBackendChangesItsMAC(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		announce string // net.ipv4.conf.eth0.arp_notify: gratuitous ARP (RFC 5227, 3)
		within   time.Duration
	}{
		{"silently", "0", macNoticed},
		{"with an announcement", "1", announcedNoticed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.oneEcho()
				c := n.talk(n.client, clientAddress+":0", echoVIP)
				c.MustExchange(t, 1000)
				if err := n.backendA.Sysctl("net/ipv4/conf/eth0/arp_notify", test.announce); err != nil {
					t.Fatal(err)
				}
				n.awaitAcknowledged(n.backendA)

				n.changeMAC(n.backendA)
				interrupted := make(chan error, 1)
				go func() { interrupted <- c.Exchange(10_000, retransmitted) }()
				testnet.Eventually(t, test.within, func() error {
					again, err := testnet.Talk(n.client, clientAddress+":0", echoVIP, time.Second)
					if err != nil {
						return err
					}
					defer again.Conn.Close()
					return again.Exchange(1000, testnet.AnswerWait)
				})
				if err := <-interrupted; err != nil {
					t.Errorf("the connection from before: %v", err)
				}
				status := n.Status()
				if hop := status.Services[0].Backends[0].NextHop; hop == nil || hop.MAC != newMAC().String() {
					t.Errorf("the status has the next hop %+v, want %s", hop, newMAC())
				}
			})
		})
	}
}

func TestClientChangesItsMACMidConnection(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.oneEcho()
		c := n.talk(n.client, clientAddress+":0", echoVIP)
		c.MustExchange(t, 10_000)
		n.changeMAC(n.client)
		c.MustExchange(t, 10_000)
	})
}

// awaitAcknowledged waits until no TCP connection of the node has anything in
// flight: it would send it again, and thereby its new MAC.
func (n *network) awaitAcknowledged(node *lab.Node) {
	n.t.Helper()
	testnet.Eventually(n.t, testnet.AnswerWait, func() error {
		var table []byte
		err := node.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/tcp")
			return err
		})
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line) // proc_pid_net(5): the fifth is tx_queue, or its heading
			if queued, _, found := strings.Cut(fields[4], ":"); found && strings.Trim(queued, "0") != "" {
				err = fmt.Errorf("not acknowledged: %s", line)
			}
		}
		return err
	})
}

func (n *network) changeMAC(node *lab.Node) {
	n.t.Helper()
	if err := node.SetMAC("eth0", newMAC()); err != nil {
		n.t.Fatal(err)
	}
}

func TestBackendThatIsAwayAtTheStartIsUsedOnceItAnswers(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		if err := n.backendB.SetDown("eth0"); err != nil {
			t.Fatal(err)
		}
		d := n.Run(n.config(service("web", "tcp", webVIP)))
		d.AwaitLog(0, `msg="backend not usable" service=web backend=backend-b`)
		if answers := n.askOften(n.client, webVIP, 100); answers["backend-a"] != 100 {
			t.Errorf("%v answered, want backend-a alone", answers)
		}

		if err := n.backendB.SetUp("eth0"); err != nil {
			t.Fatal(err)
		}
		d.AwaitLog(0, `msg="backend usable again" service=web backend=backend-b`)
		testnet.Eventually(t, testnet.AnswerWait, func() error {
			if name := n.whoAnswers(n.client, webVIP); name != "backend-b" {
				return fmt.Errorf("answered by %s", name)
			}
			return nil
		})
	})
}
