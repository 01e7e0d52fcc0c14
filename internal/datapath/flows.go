package datapath

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Flow is one connection in the flow table.
type Flow struct {
	Protocol    lb.Protocol
	Forward     lb.Forward
	Client, VIP netip.AddrPort
	Backend     netip.AddrPort
	// Source is whom the backend's answers go to: one that stands for the client, or
	// in dnat the client. Zero where the answers do not pass here.
	Source   netip.AddrPort
	Phase    string // such as "tcp-established", as in the config's timeouts
	LastSeen uint64 // ns of the data plane's clock
}

// Flows lists the flow table, in no order. Flows whose time is over stay in it
// until their room is needed.
func (d *Datapath) Flows() ([]Flow, error) {
	var flows []Flow
	err := each(d.maps.Flows, func(_ uint32, f lbFlow) {
		if f.State == lbFlowStateFLOW_LIVE {
			flows = append(flows, flowFromBPF(f))
		}
	})
	return flows, err
}

func flowFromBPF(f lbFlow) Flow {
	request, answer := f.Tuple[0], f.Tuple[1]
	flow := Flow{
		Protocol: lb.Protocol(request.Protocol), Forward: forwardFromBPF(f.Forward),
		Client: addrPort(request.Src, request.Sport), VIP: addrPort(request.Dst, request.Dport),
		Backend: addrPort(answer.Src, answer.Sport),
		Phase:   phaseName(f.Phase), LastSeen: f.LastSeen,
	}
	if flow.Forward.Translates() {
		flow.Source = addrPort(answer.Dst, answer.Dport)
	}
	return flow
}

func phaseName(p lbFlowPhase) string {
	switch p {
	case lbFlowPhasePHASE_TCP_ESTABLISHED:
		return "tcp-established"
	case lbFlowPhasePHASE_TCP_HALF_CLOSED:
		return "tcp-half-closed"
	case lbFlowPhasePHASE_UDP_STREAM:
		return "udp-stream"
	case lbFlowPhasePHASE_UDP_UNCONFIRMED:
		return "udp-unconfirmed"
	case lbFlowPhasePHASE_TCP_UNCONFIRMED:
		return "tcp-unconfirmed"
	case lbFlowPhasePHASE_TCP_CLOSED:
		return "tcp-closed"
	}
	return "unknown"
}
