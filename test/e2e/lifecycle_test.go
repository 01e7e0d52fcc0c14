package e2e

import (
	"syscall"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

func TestDataPlaneForwardsWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(*testnet.Daemon)
	}{
		{"after SIGTERM", (*testnet.Daemon).Terminate},
		{"after kill -9", (*testnet.Daemon).Kill},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.webs()
				n.echoes(7)
				d := n.Run(n.config(service("web", "tcp", webVIP), service("echo", "tcp", echoVIP)))
				existing := n.talk(n.client, clientAddress+":0", echoVIP)
				existing.MustExchange(t, 100_000)

				test.end(d)
				existing.MustExchange(t, 100_000)
				n.wantBoth(n.askOften(n.client, webVIP, 200))
				status := n.Status()
				if status.DaemonPID != 0 {
					t.Errorf("the status names daemon %d, which has ended", status.DaemonPID)
				}
				if got := testnet.Packets(status, "web", "new-flow"); got != 200 {
					t.Errorf("%d new flows counted, want 200", got)
				}
			})
		})
	}
}

func TestConnectionsSurviveEveryRestart(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.echoes(7)
		d := n.Run(n.config(service("web", "tcp", webVIP), service("echo", "tcp", echoVIP)))
		a, b := n.talkToBoth(echoVIP)
		toA, toB := n.stream(a), n.stream(b)
		before := n.dataPlane()

		for _, end := range []func(*testnet.Daemon){(*testnet.Daemon).Terminate, (*testnet.Daemon).Kill, (*testnet.Daemon).Kill, (*testnet.Daemon).Terminate} {
			toA.flows()
			toB.flows()
			end(d)
			toA.flows()
			toB.flows()
			d = n.RunAgain()
		}
		toA.flows()
		toB.flows()
		toA.finish()
		toB.finish()
		n.askOften(n.client, webVIP, 200)
		n.checkChecksums()
		// each run brings its own program, and keeps the maps
		kernelObjects{program: before.program}.awaitGone(t)
	})
}

func TestDownRemovesEverything(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(*network, *testnet.Daemon)
	}{
		{"while the daemon runs", func(n *network, d *testnet.Daemon) {
			n.Down()
			if err := d.Wait(); err != nil {
				n.t.Errorf("the daemon ended with %v", err)
			}
		}},
		{"after SIGTERM", func(n *network, d *testnet.Daemon) {
			d.Terminate()
			n.Down()
		}},
		{"after kill -9", func(n *network, d *testnet.Daemon) {
			d.Kill()
			n.Down()
		}},
		{"SIGINT does it without asking for down", func(n *network, d *testnet.Daemon) {
			if err := d.End(syscall.SIGINT); err != nil {
				n.t.Errorf("after SIGINT: %v", err)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.webs()
				d := n.Run(n.config(service("web", "tcp", webVIP)))
				n.askOften(n.client, webVIP, 20)
				objects := n.dataPlane()

				test.end(n, d)
				n.checkNothingLeft()
				objects.awaitGone(t)
				// the kernel has the port again
				n.web(n.balancer, webVIP)
				if name := n.whoAnswers(n.client, webVIP); name != "lb" {
					t.Errorf("the VIP was answered by %q", name)
				}
			})
		})
	}
}

func TestDownWithoutADataPlane(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.Down()
	n.Down()
}

func TestStatusWithoutADataPlane(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.mustFail(n.Tinylb("status"), exitInput, "no data plane is loaded", "tinylb run")
}
