package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// checkPort is where the backends are checked, apart from what they serve.
const checkPort = 81

// checked is a service of the tutorial's two backends, and perhaps others, with a check.
func checked(name, vip, check string, others ...string) string {
	port := addrPort(vip).Port()
	backends := append([]string{
		fmt.Sprintf("{name: backend-a, address: %s:%d}", addressA, port),
		fmt.Sprintf("{name: backend-b, address: %s:%d}", addressB, port),
	}, others...)
	return service(name, "tcp", vip, backends...) + "    check: {" + check + "}\n"
}

const (
	quickly = "interval: 1s, fast_interval: 100ms, timeout: 1s, rise: 2, fall: 2"
	byPort  = "type: http, port: 81, body: '^backend-[ab]', " + quickly
	isDown  = `msg="backend down" service=web backend=` + addressA
	isUp    = `msg="backend up" service=web backend=` + addressA
	refused = `cause="connect: connection refused"`
)

// checkable starts what is checked on a node, and returns what ends it.
func (n *network) checkable(node *lab.Node, address string) (stop func()) {
	n.t.Helper()
	dir := n.web(node, fmt.Sprintf("%s:%d", address, checkPort))
	return func() {
		n.t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			n.t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			n.t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			n.t.Fatal(err)
		}
	}
}

// health is what the status says about a backend of the service web.
func (n *network) health(backend string) (lb.BackendStatus, lb.HealthStatus) {
	n.t.Helper()
	return n.healthIn("web", backend)
}

func (n *network) healthIn(service, backend string) (lb.BackendStatus, lb.HealthStatus) {
	n.t.Helper()
	for _, s := range n.Status().Services {
		for _, b := range s.Backends {
			if s.Name == service && b.Name == backend {
				if b.Health == nil {
					n.t.Fatalf("%s has no health", backend)
				}
				return b, *b.Health
			}
		}
	}
	n.t.Fatalf("there is no %s", backend)
	return lb.BackendStatus{}, lb.HealthStatus{}
}

func (n *network) awaitHealth(backend string, state lb.HealthState) lb.HealthStatus {
	n.t.Helper()
	var h lb.HealthStatus
	testnet.Eventually(n.t, testnet.AnswerWait, func() error {
		var b lb.BackendStatus
		if b, h = n.health(backend); h.State != state || b.Usable != (state == lb.HealthUp) {
			return fmt.Errorf("%s is %s, usable: %v", backend, h.State, b.Usable)
		}
		return nil
	})
	return h
}

// wantOnly checks that one backend gets all connections.
func (n *network) wantOnly(backend string, requests int) {
	n.t.Helper()
	if answers := n.askOften(n.client, webVIP, requests); answers[backend] != requests {
		n.t.Errorf("%v answered, want %s alone", answers, backend)
	}
}

func TestDeadBackendTakesNoNewFlows(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.webs()
	n.echoes(7)
	stopA := n.checkable(n.backendA, addressA)
	stopB := n.checkable(n.backendB, addressB)
	d := n.Run(n.config(checked("web", webVIP, byPort), checked("echo", echoVIP, "type: tcp, port: 81, "+quickly)))
	n.awaitHealth("backend-a", lb.HealthUp)
	n.wantBoth(n.askOften(n.client, webVIP, 100))
	toA, toB := n.talkToBoth(echoVIP)
	a, b := n.stream(toA), n.stream(toB)

	d.Logs(isDown, stopA)
	h := n.awaitHealth("backend-a", lb.HealthDown)
	if h.LastError != "connect: connection refused" || len(h.Transitions) != 2 || h.Transitions[1].Cause != h.LastError ||
		!h.Transitions[1].At.Equal(h.Since) || time.Since(h.Since) > time.Minute || h.LastErrorAt.IsZero() {
		t.Errorf("the health is %+v", h)
	}
	n.wantOnly("backend-b", 100)
	testnet.Eventually(t, testnet.AnswerWait, func() error { // each service has checks of its own
		if _, h := n.healthIn("echo", "backend-a"); h.State != lb.HealthDown {
			return fmt.Errorf("backend-a is %s in echo", h.State)
		}
		return nil
	})
	for range 10 {
		if c := n.talk(n.client, clientAddress+":0", echoVIP); c.Backend != "backend-b" {
			t.Fatalf("a new connection went to %s", c.Backend)
		}
	}
	a.flows()
	text, err := n.Tinylb("status").Output()
	if err != nil || !strings.Contains(string(text), "down") || !strings.Contains(string(text), "LAST ERROR") {
		t.Errorf("the status is, %v\n%s", err, text)
	}

	// without a daemon the verdict stays, and the next one goes on with it
	d.Kill()
	n.wantOnly("backend-b", 50)
	if _, now := n.health("backend-a"); now.State != lb.HealthDown || !now.Since.Equal(h.Since) {
		t.Errorf("without a daemon the health is %+v", now)
	}
	d = n.RunAgain()
	if _, now := n.health("backend-a"); now.State != lb.HealthDown || !now.Since.Equal(h.Since) {
		t.Errorf("with the next daemon the health is %+v", now)
	}
	n.wantOnly("backend-b", 50)

	d.Logs(isUp, func() { stopA = n.checkable(n.backendA, addressA) })
	n.awaitHealth("backend-a", lb.HealthUp)
	n.wantBoth(n.askOften(n.client, webVIP, 100))
	a.flows()
	b.flows()

	stopA()
	stopB()
	n.awaitHealth("backend-a", lb.HealthDown)
	n.awaitHealth("backend-b", lb.HealthDown)
	if _, err := n.ask(n.client, webVIP, briefly); err == nil {
		t.Error("a service without a backend that is up has answered")
	}
	if testnet.Packets(n.Status(), "web", "no-backend") == 0 {
		t.Error("no packet was counted as no-backend")
	}
	a.flows()
	a.finish()
	b.finish()
	for _, line := range []string{isDown, isUp} { // of this daemon
		if got := strings.Count(d.Log.String(), line); got != 1 {
			t.Errorf("%d lines with %s in\n%s", got, line, d.Log)
		}
	}
	if !strings.Contains(d.Log.String(), refused) || strings.Contains(d.Log.String(), "not usable") {
		t.Errorf("the log is\n%s", d.Log)
	}
}

// A start does not begin with backends that are down; a reload's new ones wait.
func TestNewBackendsAreCheckedFirst(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.webs()
	n.checkable(n.backendB, addressB)
	const slow = "type: http, port: 81, interval: 1h, fast_interval: 100ms, timeout: 1s, rise: 1, fall: 1"
	d := n.Run(n.config(checked("web", webVIP, slow)))
	if _, h := n.health("backend-a"); h.State != lb.HealthDown {
		t.Errorf("after the start it is %+v", h)
	}
	n.wantOnly("backend-b", 50)

	const third = "192.17.0.6"
	node := n.machine("backend-c", third)
	n.web(node, third+":80")
	hanging, err := node.Listen("tcp", fmt.Sprintf("%s:%d", third, checkPort)) // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	d.Logs(reloaded, func() {
		n.WriteConfig(n.config(checked("web", webVIP, slow, "{name: backend-c, address: "+third+":80}")))
	})
	n.awaitHealth("backend-c", lb.HealthDown)
	n.wantOnly("backend-b", 50)
	if _, h := n.health("backend-c"); h.LastError != "receive: no answer within 1s" || len(h.Transitions) != 1 {
		t.Errorf("the health is %+v", h)
	}

	// what is not checked any more is usable
	d.Logs(reloaded, func() { n.WriteConfig(n.config(service("web", "tcp", webVIP))) })
	testnet.Eventually(t, testnet.AnswerWait, func() error {
		for _, b := range n.Status().Services[0].Backends {
			if b.Health != nil || !b.Usable {
				return fmt.Errorf("%s: health %v, usable: %v", b.Name, b.Health, b.Usable)
			}
		}
		return nil
	})
	n.wantBoth(n.askOften(n.client, webVIP, 100))
}
