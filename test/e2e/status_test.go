package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

func TestStatusAddsUpWithTheTraffic(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		testnet.EchoUDP(n.t, n.backendA, addressA+":53")
		d := n.Run(n.config(
			service("web", "tcp", webVIP),
			service("dns", "udp", udpVIP, "{address: "+addressA+":53, weight: 7}")))

		const requests, datagrams, size = 300, 20, 1000
		n.askOften(n.client, webVIP, requests)
		client := testnet.ListenUDP(n.t, n.client, clientAddress+":0")
		for range datagrams {
			n.exchangeUDP(client, make([]byte, size))
		}

		s := n.Status()
		if s.Pin != n.PinDir() || s.DaemonPID != d.Process.Pid {
			t.Errorf("pin %s, daemon %d; want %s and %d", s.Pin, s.DaemonPID, n.PinDir(), d.Process.Pid)
		}
		n.checkMode("eth0", mode)
		dns, web := s.Services[0], s.Services[1]
		checkService(t, dns, "dns", udpVIP, "udp")
		checkService(t, web, "web", webVIP, "tcp")
		n.checkBackend(web.Backends[0], lb.BackendStatus{Name: "backend-a", Address: addrPort(addressA + ":80"), Weight: 1})
		n.checkBackend(web.Backends[1], lb.BackendStatus{Name: "backend-b", Address: addrPort(addressB + ":80"), Weight: 1})
		n.checkBackend(dns.Backends[0], lb.BackendStatus{Name: addressA + ":53", Address: addrPort(addressA + ":53"), Weight: 7, Active: 1})

		checkTotals(t, s, web, requests)
		checkTotals(t, s, dns, 1)
		frames := uint64(datagrams * (14 + 20 + 8 + size)) // Ethernet, IPv4, UDP
		want := lb.BackendCounters{PacketsIn: datagrams, PacketsOut: datagrams, BytesIn: frames, BytesOut: frames, Flows: 1}
		if got := dns.Backends[0].Counters; got != want {
			t.Errorf("the counters of dns are %+v, want %+v", got, want)
		}
		for _, r := range s.Reasons {
			if !slices.Contains([]string{"new-flow", "forwarded", "reply"}, r.Reason) && r.Service != "" {
				t.Errorf("%d packets of %s: %s", r.Packets, r.Service, r.Reason)
			}
		}
	})
}

func checkService(t *testing.T, s lb.ServiceStatus, name, vip, protocol string) {
	t.Helper()
	if s.Name != name || s.Address != lb.VIPAt(addrPort(vip)) || !slices.Equal(s.Protocols, []string{protocol}) ||
		s.Forward != lb.ForwardNAT || s.Scheduler != lb.Maglev || s.TableSize == 0 {
		t.Errorf("%s is %+v", name, s)
	}
}

// checkBackend compares all but the counters.
func (n *network) checkBackend(got, want lb.BackendStatus) {
	n.t.Helper()
	node := n.backendA
	if want.Address.Addr() == addrPort(addressB+":0").Addr() {
		node = n.backendB
	}
	device, err := node.Interface("eth0")
	if err != nil {
		n.t.Fatal(err)
	}
	if hop := got.NextHop; hop == nil || *hop != (lb.NextHopStatus{Interface: "eth0", MAC: device.HardwareAddr.String()}) {
		n.t.Errorf("the next hop of %s is %+v, want %s by eth0", want.Name, hop, device.HardwareAddr)
	}
	got.Counters, got.NextHop, want.Usable = lb.BackendCounters{}, nil, true
	if got != want {
		n.t.Errorf("the backend is %+v, want %+v", got, want)
	}
}

// checkTotals compares what was counted per backend with what was counted per reason.
func checkTotals(t *testing.T, s lb.Status, service lb.ServiceStatus, flows uint64) {
	t.Helper()
	var total lb.BackendCounters
	for _, b := range service.Backends {
		total.Flows += b.Counters.Flows
		total.PacketsIn += b.Counters.PacketsIn
		total.PacketsOut += b.Counters.PacketsOut
	}
	opened, forwarded := testnet.Packets(s, service.Name, "new-flow"), testnet.Packets(s, service.Name, "forwarded")
	if opened != flows || total.Flows != flows {
		t.Errorf("%s: %d flows counted at the backends and %d new ones, want %d", service.Name, total.Flows, opened, flows)
	}
	if total.PacketsIn != opened+forwarded {
		t.Errorf("%s: %d packets in at the backends, %d new-flow and %d forwarded", service.Name, total.PacketsIn, opened, forwarded)
	}
	if replies := testnet.Packets(s, service.Name, "reply"); total.PacketsOut != replies || replies < flows {
		t.Errorf("%s: %d packets out at the backends, %d replies", service.Name, total.PacketsOut, replies)
	}
}

func TestStatusWhileDaemonsComeAndGo(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeGeneric)
	n.webs()
	n.WriteConfig(n.config(service("web", "tcp", webVIP)))
	over, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-over:
				ended <- nil
				return
			default:
			}
			out, err := n.Tinylb("status").CombinedOutput()
			if err != nil && !strings.Contains(string(out), "no data plane is loaded") {
				ended <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
	}()
	for range 3 {
		for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT} {
			n.RunAgain().End(signal)
		}
	}
	close(over)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestStatusJSONHasTheseKeys(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.webs()
	n.Run(n.config(service("web", "tcp", webVIP)))
	n.askOften(n.client, webVIP, 20)
	out, err := n.Tinylb("status", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var status any
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	found := map[string]bool{}
	collectKeys(status, "", found)
	want := strings.Fields(`.daemon_pid .fragments .fragments.held .fragments.held_bytes .fragments.incomplete
		.interfaces .interfaces.index .interfaces.mode .interfaces.name .interfaces.notices
		.pin
		.reasons .reasons.packets .reasons.reason .reasons.service
		.services .services.address
		.services.backends .services.backends.active_flows .services.backends.address
		.services.backends.counters .services.backends.counters.bytes_in .services.backends.counters.bytes_out
		.services.backends.counters.flows .services.backends.counters.packets_in .services.backends.counters.packets_out
		.services.backends.name
		.services.backends.next_hop .services.backends.next_hop.interface .services.backends.next_hop.mac
		.services.backends.usable .services.backends.weight
		.services.forward .services.name .services.protocols .services.scheduler .services.table_size`)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("the keys are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// collectKeys notes every key of the objects in value, with the way to it.
func collectKeys(value any, path string, found map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			collectKeys(item, path, found)
		}
	case map[string]any:
		for key, item := range value {
			found[path+"."+key] = true
			collectKeys(item, path+"."+key, found)
		}
	}
}
