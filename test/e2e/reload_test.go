package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// briefly is how long a packet is waited for that must not come.
const briefly = 500 * time.Millisecond

const reloaded = `msg="config reloaded"`

// onlyTo is the echo service with one backend.
func (n *network) onlyTo(backend, address string) string {
	return n.config(service("echo", "tcp", echoVIP, fmt.Sprintf("{name: %s, address: %s:7}", backend, address)))
}

func TestReloadByAChangedFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(n *network, d *testnet.Daemon, config string)
	}{
		{"written anew", func(n *network, _ *testnet.Daemon, config string) { n.WriteConfig(config) }},
		{"replaced, as editors do", func(n *network, _ *testnet.Daemon, config string) {
			testnet.WriteFile(n.t, n.ConfigFile()+"~", config)
			if err := os.Rename(n.ConfigFile()+"~", n.ConfigFile()); err != nil {
				n.t.Fatal(err)
			}
		}},
		{"removed and made anew", func(n *network, d *testnet.Daemon, config string) {
			d.Logs("the old one stays in effect", func() {
				if err := os.Remove(n.ConfigFile()); err != nil {
					n.t.Fatal(err)
				}
			})
			n.WriteConfig(config)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, lb.ModeNative)
			n.echoes(7)
			d := n.Run(n.onlyTo("backend-a", addressA))
			n.awaitBackend("backend-a")
			d.Logs(reloaded, func() { test.change(n, d, n.onlyTo("backend-b", addressB)) })
			n.awaitBackend("backend-b")
		})
	}
}

func TestReloadBehindALink(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		dir  string // of the link that the config file leads to
		ask  func(*testnet.Daemon) error
	}{
		{"beside the config file, as Kubernetes has it", "", func(*testnet.Daemon) error { return nil }},
		{"elsewhere, where its change is not seen but by SIGHUP", t.TempDir(), func(d *testnet.Daemon) error { return d.Signal(syscall.SIGHUP) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, lb.ModeNative)
			n.echoes(7)
			link := filepath.Join(cmp.Or(test.dir, n.Dir), "current")
			n.switchLink(link, n.onlyTo("backend-a", addressA))
			if err := os.Symlink(link, n.ConfigFile()); err != nil {
				t.Fatal(err)
			}
			d := n.RunAgain()
			n.awaitBackend("backend-a")
			d.Logs(reloaded, func() {
				n.switchLink(link, n.onlyTo("backend-b", addressB))
				if err := test.ask(d); err != nil {
					t.Fatal(err)
				}
			})
			n.awaitBackend("backend-b")
		})
	}
}

// switchLink makes a link, in one step, lead to a new file with this config.
func (n *network) switchLink(link, config string) {
	n.t.Helper()
	target, err := os.CreateTemp(filepath.Dir(link), "config-")
	if err != nil {
		n.t.Fatal(err)
	}
	defer target.Close()
	testnet.WriteFile(n.t, target.Name(), config)
	if err := errors.Join(os.Symlink(target.Name(), link+"~"), os.Rename(link+"~", link)); err != nil {
		n.t.Fatal(err)
	}
}

// awaitBackend waits until new connections go to the backend.
func (n *network) awaitBackend(name string) {
	n.t.Helper()
	testnet.Eventually(n.t, testnet.AnswerWait, func() error {
		// one that meets a backend just before it is removed gets no answer
		c, err := testnet.Talk(n.client, clientAddress+":0", echoVIP, time.Second)
		if err != nil {
			return err
		}
		defer c.Conn.Close()
		if c.Backend != name {
			return fmt.Errorf("%s answered, want %s", c.Backend, name)
		}
		return nil
	})
}

func TestInvalidNewConfigChangesNothing(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.echoes(7)
	d := n.Run(n.onlyTo("backend-a", addressA))
	existing := n.talk(n.client, clientAddress+":0", echoVIP)
	before := n.dataPlane()
	valid := n.onlyTo("backend-b", addressB)

	for _, bad := range []struct{ config, why string }{
		{valid + "mode: natve\n", n.ConfigFile() + `:8:1: the config: the key \"mode\" was already given in line 2`},
		{"interfaces: [eth0, eth7]\n" + valid[len("interfaces: [eth0]\n"):], "no such interface: eth7"},
		{valid + "limits: {flows: 1024}\n", "limits change only with a restart"},
		{"", n.ConfigFile() + ":1:1: the config is empty"},
	} {
		d.Logs(bad.why, func() { n.WriteConfig(bad.config) })
		existing.MustExchange(t, 10_000)
		for range 5 {
			if c := n.talk(n.client, clientAddress+":0", echoVIP); c.Backend != "backend-a" {
				t.Errorf("after %q: %s answered", bad.why, c.Backend)
			}
		}
		if after := n.dataPlane(); after.program != before.program {
			t.Errorf("after %q: program %d is attached, before it was %d", bad.why, after.program, before.program)
		}
	}
	d.Logs(reloaded, func() { n.WriteConfig(valid) })
	n.awaitBackend("backend-b")
}

func TestLiveConnectionsStayOnTheirBackendWhileBackendsComeAndGo(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.echoes(7)
		backendC := n.machine("backend-c", "192.17.0.8")
		n.echoTCP(backendC, "192.17.0.8:7")
		a := "{name: backend-a, address: " + addressA + ":7}"
		b := "{name: backend-b, address: " + addressB + ":7}"
		c := "{name: backend-c, address: 192.17.0.8:7}"
		echo := func(backends ...string) string { return n.config(service("echo", "tcp", echoVIP, backends...)) }

		d := n.Run(echo(a, b))
		toA, toB := n.talkToBoth(echoVIP)
		streamA := n.stream(toA)
		toB.MustExchange(t, 10_000)

		d.Logs(reloaded, func() { n.WriteConfig(echo(a, b, c)) }) // one more
		n.awaitBackend("backend-c")
		streamA.flows()
		toB.MustExchange(t, 10_000)

		d.Logs(reloaded, func() { n.WriteConfig(echo(c, a)) }) // b is gone
		streamA.flows()
		for range 20 {
			if now := n.talk(n.client, clientAddress+":0", echoVIP); now.Backend == "backend-b" {
				t.Error("a new connection went to backend-b, which was removed")
			}
		}
		if err := toB.Exchange(1000, briefly); err == nil {
			t.Error("the connection to backend-b, which was removed, goes on")
		}
		// the flow may have been swept by then
		if s := n.Status(); testnet.Packets(s, "echo", "backend-gone")+testnet.Packets(s, "echo", "no-flow") == 0 {
			t.Error("no packet counted as backend-gone, nor as no-flow")
		}

		d.Logs(reloaded, func() { n.WriteConfig(echo(b, c, a)) }) // and back
		n.awaitBackend("backend-b")
		streamA.flows()
		streamA.finish()
		if status := n.Status(); len(status.Services[0].Backends) != 3 {
			t.Errorf("the status has the backends %+v, want 3", status.Services[0].Backends)
		}
	})
}
