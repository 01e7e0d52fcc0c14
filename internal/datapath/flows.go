package datapath

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Flow is one connection in the flow table.
type Flow struct {
	Protocol        lb.Protocol
	Client, VIP     netip.AddrPort
	Backend, Source netip.AddrPort // the source stands for the client toward the backend
	Phase           string         // such as "tcp-established", as in the config's timeouts
	LastSeen        uint64         // ns of the data plane's clock
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
	return Flow{
		Protocol: lb.Protocol(request.Protocol),
		Client:   addrPort(request.Src, request.Sport), VIP: addrPort(request.Dst, request.Dport),
		Backend: addrPort(answer.Src, answer.Sport), Source: addrPort(answer.Dst, answer.Dport),
		Phase: phaseName(f.Phase), LastSeen: f.LastSeen,
	}
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
