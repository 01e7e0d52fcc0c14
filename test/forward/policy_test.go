package forward

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	groupPort = 8 // of a second service with the same backends
	// refusedFor is how long is waited for an answer that must not come.
	refusedFor = 700 * time.Millisecond
	otherHost  = clientHost + 100 // the client's second address
)

// policyNetwork is a network whose service asks something of new flows.
type policyNetwork struct {
	*network
	tableSize uint32 // that the config asks for; another one for each config
}

func newPolicyNetwork(t *testing.T, w way) *policyNetwork {
	t.Helper()
	n := &policyNetwork{newNetwork(t, w, 2), 251}
	n.must(n.client.AddAddress("eth0", n.vip.address(front, otherHost)))
	for i, backend := range n.backends {
		for _, port := range []uint16{echoPort, groupPort} {
			testnet.EchoTCP(t, backend, n.local(i, port))
		}
	}
	n.Run(n.asking("", ""))
	return n
}

// asking is a config whose services and backends have these keys, too.
func (n *policyNetwork) asking(service, backend string) string {
	text := fmt.Sprintf("interfaces: [eth0]\nmode: %s\nservices:\n", n.mode)
	for _, port := range []uint16{echoPort, groupPort} {
		text += fmt.Sprintf("  - {name: s%d, address: %q, forward: %s, table_size: %d, %sbackends: [",
			port, n.at(port), n.forward, n.tableSize, service)
		for i := range n.backends {
			text += fmt.Sprintf("{address: %q%s}, ", n.backendAddress(i), backend)
		}
		text = strings.TrimSuffix(text, ", ") + "]}\n"
	}
	return text
}

// ask changes what new flows are asked for, and returns when they are: a service's entry, with its table, is
// written last.
func (n *policyNetwork) ask(service, backend string) {
	n.t.Helper()
	n.tableSize = 251 + 509 - n.tableSize
	n.WriteConfig(n.asking(service, backend))
	testnet.Eventually(n.t, testnet.DaemonWait, func() error {
		for _, s := range n.Status().Services {
			if s.TableSize != n.tableSize {
				return fmt.Errorf("the table of %s has %d entries, want %d", s.Name, s.TableSize, n.tableSize)
			}
		}
		return nil
	})
}

// talk opens a connection from the client's host number.
func (n *policyNetwork) talk(host int, port uint16, within time.Duration) (*testnet.Conversation, error) {
	from := netip.AddrPortFrom(n.vip.address(front, host).Addr(), 0)
	c, err := testnet.Talk(n.client, from.String(), n.at(port).String(), within)
	if err == nil {
		n.t.Cleanup(func() { reset(c) })
	}
	return c, err
}

func (n *policyNetwork) mustTalk(host int, port uint16) *testnet.Conversation {
	n.t.Helper()
	c, err := n.talk(host, port, testnet.AnswerWait)
	n.must(err)
	return c
}

// refused checks that a connection does not come up, and that its packets are counted under a reason.
func (n *policyNetwork) refused(host int, reason string) {
	n.t.Helper()
	before := testnet.Packets(n.Status(), "s7", reason)
	if c, err := n.talk(host, echoPort, refusedFor); err == nil {
		n.t.Errorf("a connection came up to %s, want %s", c.Backend, reason)
	}
	if after := testnet.Packets(n.Status(), "s7", reason); after == before {
		n.t.Errorf("no packet was counted under %s", reason)
	}
}

// reset ends a connection in a way that every mode sees.
func reset(c *testnet.Conversation) {
	c.Conn.SetLinger(0)
	c.Conn.Close()
}

// TestPolicies has a service of each mode and family ask something of its clients.
func TestPolicies(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if w.twoArm || w.vip != w.backend {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newPolicyNetwork(t, w)
			n.run("sources allowed and denied", (*policyNetwork).checkSources)
			n.run("new flows per second of a client", (*policyNetwork).checkClientRate)
			n.run("new flows per second of a service", (*policyNetwork).checkServiceRate)
			n.run("most flows of a service", (*policyNetwork).checkServiceFull)
			n.run("most flows of a backend", (*policyNetwork).checkBackendsFull)
			n.run("affinity over flows and services", (*policyNetwork).checkAffinity)
			n.run("timeouts of a service", (*policyNetwork).checkTimeouts)
		})
	}
}

func (n *policyNetwork) run(name string, check func(*policyNetwork)) {
	n.network.t.Run(name, func(t *testing.T) {
		network := *n.network
		network.t, network.Balancer = t, n.In(t)
		sub := &policyNetwork{&network, n.tableSize}
		check(sub)
		n.tableSize = sub.tableSize
	})
}

func (n *policyNetwork) checkSources() {
	open := n.mustTalk(clientHost, echoPort)
	n.ask(fmt.Sprintf("deny: [%q], ", n.vip.address(front, clientHost).Addr()), "")
	n.refused(clientHost, "source-denied")
	n.mustTalk(otherHost, echoPort)
	open.MustExchange(n.t, 1000) // it was there before
	n.ask(fmt.Sprintf("allow: [%q], ", n.vip.address(front, clientHost).Addr()), "")
	n.mustTalk(clientHost, echoPort)
	n.refused(otherHost, "source-denied")
}

// many opens connections at once, and says how many came up.
func (n *policyNetwork) many(host, connections int) (up int) {
	var group sync.WaitGroup
	var lock sync.Mutex
	for range connections {
		group.Go(func() {
			if _, err := n.talk(host, echoPort, refusedFor); err == nil {
				lock.Lock()
				defer lock.Unlock()
				up++
			}
		})
	}
	group.Wait()
	return up
}

func (n *policyNetwork) checkClientRate() {
	n.ask("per_client: {new_flows_per_second: 2, prefix_v6: 128}, ", "")
	n.rateIsKept("client-rate")
	n.mustTalk(otherHost, echoPort)
}

func (n *policyNetwork) checkServiceRate() {
	n.ask("new_flows_per_second: 2, ", "")
	n.rateIsKept("service-rate")
	time.Sleep(time.Second) // that is what it is about
	n.mustTalk(otherHost, echoPort)
}

// rateIsKept checks a rate of two a second.
func (n *policyNetwork) rateIsKept(reason string) {
	n.t.Helper()
	const tries, perSecond = 20, 2
	begin := time.Now()
	up := n.many(clientHost, tries)
	most := perSecond + int(perSecond*time.Since(begin).Seconds()) + 1
	if up == 0 || up > most {
		n.t.Errorf("%d of %d connections came up at once, want 1 to %d", up, tries, most)
	}
	if refused := int(testnet.Packets(n.Status(), "s7", reason)); refused < tries-most {
		n.t.Errorf("%d packets were counted under %s, want %d at least", refused, reason, tries-most)
	}
}

func (n *policyNetwork) checkServiceFull() {
	n.ask("max_flows: 1, ", "")
	c := n.mustTalk(clientHost, echoPort)
	n.refused(otherHost, "max-flows-service")
	reset(c)
	n.mustTalk(otherHost, echoPort)
}

func (n *policyNetwork) checkBackendsFull() {
	n.ask("", ", max_flows: 1")
	one, other := n.mustTalk(clientHost, echoPort), n.mustTalk(clientHost, echoPort)
	if one.Backend == other.Backend {
		n.t.Errorf("both connections went to %s, which may have one", one.Backend)
	}
	n.refused(clientHost, "max-flows-backend")
	reset(one)
	if third := n.mustTalk(clientHost, echoPort); third.Backend != one.Backend {
		n.t.Errorf("a connection went to %s, want %s, where there is room", third.Backend, one.Backend)
	}
}

func (n *policyNetwork) checkAffinity() {
	const connections = 12
	reached := func() map[string]bool {
		all := map[string]bool{}
		for range connections {
			all[n.mustTalk(clientHost, echoPort).Backend] = true
		}
		return all
	}
	n.ask("scheduler: random, ", "")
	if all := reached(); len(all) != 2 {
		n.t.Errorf("by chance %d connections reached %v, want both backends", connections, all)
	}
	n.ask("scheduler: random, affinity: {by: client, group: g}, ", "")
	first := n.mustTalk(clientHost, echoPort).Backend
	if all := reached(); len(all) != 1 || !all[first] {
		n.t.Errorf("a client of %s was led to %v", first, all)
	}
	for range connections {
		if c := n.mustTalk(clientHost, groupPort); c.Backend != first {
			n.t.Errorf("in another service of the group a client of %s was led to %s", first, c.Backend)
		}
	}
}

func (n *policyNetwork) checkTimeouts() {
	n.ask("timeouts: {tcp_established: 1s, tcp_unconfirmed: 1s}, ", "")
	c := n.mustTalk(clientHost, echoPort)
	c.MustExchange(n.t, 1000)
	opened := n.opened()
	time.Sleep(2500 * time.Millisecond) // a timeout takes its time
	err := c.Exchange(1000, testnet.AnswerWait)
	switch now := n.opened(); {
	case n.forward == lb.ForwardNAT && err == nil:
		n.t.Error("a connection went on although its time was over")
	case n.forward != lb.ForwardNAT && (err != nil || now != opened+1):
		n.t.Errorf("a connection whose time was over became %d flows: %v", now-opened, err)
	}
}

// opened is how many flows there have been.
func (n *policyNetwork) opened() (flows uint64) {
	n.t.Helper()
	for _, s := range n.Status().Services {
		for _, b := range s.Backends {
			flows += b.Counters.Flows
		}
	}
	return flows
}
