package forward

import (
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// checkStatus checks what was counted, reason by reason: no packet of a service
// ended otherwise. So many packets' TTLs expired.
func (n *network) checkStatus(expired uint64) {
	n.t.Helper()
	opening := "new-flow"
	if n.forward == lb.ForwardDNAT && n.flat {
		opening = "new-flow-snat"
	}
	reasons := []string{opening, "forwarded"}
	if n.forward.Translates() {
		reasons = append(reasons, "reply")
	}
	s := n.Status()
	for _, service := range s.Services {
		n.checkService(s, service, opening)
		for _, reason := range reasons {
			if testnet.Packets(s, service.Name, reason) == 0 {
				n.t.Errorf("no packet of %s counts as %s", service.Name, reason)
			}
		}
	}
	for _, r := range s.Reasons {
		if r.Service != "" && r.Packets > 0 && r.Reason != "ttl-expired" && !slices.Contains(reasons, r.Reason) {
			n.t.Errorf("%d packets of %s: %s", r.Packets, r.Service, r.Reason)
		}
	}
	if got := testnet.Packets(s, "rest", "ttl-expired"); got != expired {
		n.t.Errorf("%d packets' TTLs expired, want %d", got, expired)
	}
}

// checkService compares what was counted at the backend with what was counted per reason.
func (n *network) checkService(s lb.Status, service lb.ServiceStatus, opening string) {
	n.t.Helper()
	device, err := n.backends[0].Interface("eth0")
	n.must(err)
	hop := lb.NextHopStatus{Interface: "eth0", MAC: device.HardwareAddr.String()}
	if n.twoArm {
		hop.Interface = "eth1"
	}
	if len(service.Backends) != 1 || service.Forward != n.forward || service.Address.Addr != n.vipAddress() {
		n.t.Fatalf("the status has %+v", service)
	}
	if b := service.Backends[0]; b.Address.Addr() != n.backendAddress(0) || b.NextHop == nil || *b.NextHop != hop {
		n.t.Errorf("%s: the backend is %+v, its next hop %+v, want %+v", service.Name, b, b.NextHop, hop)
	}
	got := service.Backends[0].Counters
	opened := testnet.Packets(s, service.Name, opening)
	in := opened + testnet.Packets(s, service.Name, "forwarded")
	out := testnet.Packets(s, service.Name, "reply")
	held := testnet.Packets(s, "", "fragment-held") // of one service; each followed its first
	if got.Flows != opened || got.PacketsIn < in || got.PacketsOut < out ||
		got.PacketsIn+got.PacketsOut != in+out && got.PacketsIn+got.PacketsOut != in+out+held {
		n.t.Errorf("%s: the backend counts %+v; by reason there are %d flows, %d packets in and %d out", service.Name, got, opened, in, out)
	}
}
