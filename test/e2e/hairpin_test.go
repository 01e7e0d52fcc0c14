package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// forwards are the modes in which backends need nothing but a route.
func inBothModesTranslated(t *testing.T, test func(t *testing.T, mode lb.Mode, forward lb.Forward)) {
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		for _, forward := range []lb.Forward{lb.ForwardNAT, lb.ForwardDNAT} {
			t.Run(string(forward), func(t *testing.T) {
				t.Parallel()
				test(t, mode, forward)
			})
		}
	})
}

// forwarded is a service with another forward mode.
func forwarded(forward lb.Forward, service string) string {
	return service + fmt.Sprintf("    forward: %s\n", forward)
}

// A backend asks the service that it serves itself, and is among those who answer.
func TestBackendIsAClientOfItsOwnService(t *testing.T) {
	t.Parallel()
	inBothModesTranslated(t, func(t *testing.T, mode lb.Mode, forward lb.Forward) {
		n := newNetwork(t, mode)
		n.addSix()
		n.websOfBothFamilies()
		services := foreignServices()
		n.Run(n.config(forwarded(forward, service("own", "tcp", webVIP)), forwarded(forward, services[0]), forwarded(forward, services[1])))
		for _, vip := range []string{webVIP, foreignVIP + ":80", "[" + foreignVIP6 + "]:80"} {
			n.wantBoth(n.askOften(n.backendA, vip, 100))
			n.wantBoth(n.askOften(n.backendB, vip, 100))
		}
		n.checkChecksums()
	})
}

// Of one machine that is both, by one address or by two.
func TestClientAndBackendAreOneMachine(t *testing.T) {
	t.Parallel()
	inBothModesTranslated(t, func(t *testing.T, mode lb.Mode, forward lb.Forward) {
		n := newNetwork(t, mode)
		if err := n.backendA.AddAddress("eth0", prefixes(secondClient)...); err != nil {
			t.Fatal(err)
		}
		n.echoTCP(n.backendA, addressA+":7")
		n.Run(n.config(forwarded(forward, service("echo", "tcp", echoVIP, "{name: backend-a, address: "+addressA+":7}"))))
		n.alternate(
			n.talk(n.backendA, addressA+sharedPort, echoVIP),
			n.talk(n.backendA, secondClient+sharedPort, echoVIP))
	})
}

// Two VIPs lead to one backend, and a client talks to both from one port.
func TestOneClientPortToSeveralVIPsOfABackend(t *testing.T) {
	t.Parallel()
	inBothModesTranslated(t, func(t *testing.T, mode lb.Mode, forward lb.Forward) {
		n := newNetwork(t, mode)
		n.echoTCP(n.backendA, addressA+":7")
		backend := "{name: backend-a, address: " + addressA + ":7}"
		n.Run(n.config(
			forwarded(forward, service("own", "tcp", echoVIP, backend)),
			forwarded(forward, service("foreign", "tcp", foreignVIP+":7", backend)),
			forwarded(forward, service("other-port", "tcp", balancerAddress+":8", backend))))
		first := n.talk(n.client, clientAddress+sharedPort, echoVIP)
		second := n.talk(n.client, clientAddress+sharedPort, foreignVIP+":7")
		third := n.talk(n.client, clientAddress+sharedPort, balancerAddress+":8")
		n.alternate(first, second)
		n.alternate(second, third)
	})
}

// Client and backend are behind the same router, the balancer is not.
func TestClientAndBackendBehindTheSameRouter(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		far := n.addRouter("far-backend")
		n.route(n.balancer, farNetwork, nearRouter)
		n.web(far, farMachineWeb)
		n.Run(n.config(service("web", "tcp", webVIP, "{address: "+farMachineWeb+"}")))
		if answers := n.askOften(far, webVIP, 100); answers["far-backend"] != 100 {
			t.Errorf("%v answered, want far-backend alone", answers)
		}
	})
}

// XDP sees only what arrives: what the balancer's own host sends to a VIP is for that host, or for nobody.
func TestTheHostsOwnConnectionsAreNotBalanced(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.web(n.balancer, webVIP)
		n.Run(n.config(service("own", "tcp", webVIP), service("foreign", "tcp", foreignVIP+":80")))
		if answers := n.askOften(n.balancer, webVIP, 50); answers["lb"] != 50 {
			t.Errorf("%v answered the host itself, want its own server", answers)
		}
		if name, err := n.ask(n.balancer, foreignVIP+":80", 2*time.Second); err == nil {
			t.Errorf("%s answered for a VIP that is no address of the host", name)
		}
		n.wantBoth(n.askOften(n.client, webVIP, 100))
		n.wantBoth(n.askOften(n.client, foreignVIP+":80", 100))
	})
}
