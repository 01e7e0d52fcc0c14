package e2e

import (
	"syscall"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

func TestDataPlaneForwardsWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(*daemon)
	}{
		{"after SIGTERM", (*daemon).terminate},
		{"after kill -9", (*daemon).kill},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.webs()
				n.echoes(7)
				d := n.run(n.config(service("web", "tcp", webVIP), service("echo", "tcp", echoVIP)))
				existing := n.talk(n.client, clientAddress+":0", echoVIP)
				existing.mustExchange(t, 100_000)

				test.end(d)
				existing.mustExchange(t, 100_000)
				n.wantBoth(n.askOften(n.client, webVIP, 200))
				status := n.status()
				if status.DaemonPID != 0 {
					t.Errorf("the status names daemon %d, which has ended", status.DaemonPID)
				}
				if got := packets(status, "web", "new-flow"); got != 200 {
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
		d := n.run(n.config(service("web", "tcp", webVIP), service("echo", "tcp", echoVIP)))
		a, b := n.talkToBoth(echoVIP)
		toA, toB := n.stream(a), n.stream(b)
		before := n.dataPlane()

		for _, end := range []func(*daemon){(*daemon).terminate, (*daemon).kill, (*daemon).kill, (*daemon).terminate} {
			toA.flows()
			toB.flows()
			end(d)
			toA.flows()
			toB.flows()
			d = n.runAgain()
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
		end  func(*network, *daemon)
	}{
		{"while the daemon runs", func(n *network, d *daemon) {
			n.mustDown()
			if err := d.Wait(); err != nil {
				n.t.Errorf("the daemon ended with %v", err)
			}
		}},
		{"after SIGTERM", func(n *network, d *daemon) {
			d.terminate()
			n.mustDown()
		}},
		{"after kill -9", func(n *network, d *daemon) {
			d.kill()
			n.mustDown()
		}},
		{"SIGINT does it without asking for down", func(n *network, d *daemon) {
			if err := d.end(syscall.SIGINT); err != nil {
				n.t.Errorf("after SIGINT: %v", err)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.webs()
				d := n.run(n.config(service("web", "tcp", webVIP)))
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

func (n *network) mustDown() {
	n.t.Helper()
	if out, err := n.tinylb("down").CombinedOutput(); err != nil {
		n.t.Fatalf("tinylb down: %v\n%s", err, out)
	}
}

func TestDownWithoutADataPlane(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.mustDown()
	n.mustDown()
}

func TestStatusWithoutADataPlane(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.mustFail(n.tinylb("status"), exitInput, "no data plane is loaded", "tinylb run")
}
