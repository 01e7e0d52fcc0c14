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
	err := d.eachFlow(func(_ uint32, f lbFlow, p lbFlowPrefixes) {
		flows = append(flows, flowFromBPF(f, p))
	})
	return flows, err
}

// eachFlow calls visit with every live flow, and the prefixes of its addresses if they are IPv6.
func (d *Datapath) eachFlow(visit func(slot uint32, f lbFlow, p lbFlowPrefixes)) error {
	flows, err := mapped[lbFlow](d.maps.Flows)
	if err != nil {
		return err
	}
	prefixes, err := mapped[lbFlowPrefixes](d.maps.AllFlowPrefixes)
	if err != nil {
		return err
	}
	for slot, f := range flows.all() {
		if f.Life.Phase == lbFlowPhasePHASE_FREE {
			continue
		}
		var p lbFlowPrefixes
		if f.Life.Flags&(lbFlowFlagsFLOW_REQUEST_V6|lbFlowFlagsFLOW_ANSWER_V6) != 0 {
			p = prefixes.at(slot)
		}
		// the data plane does not wait: a flow that another one has replaced meanwhile is left out
		if flows.at(slot).Life.Turn == f.Life.Turn {
			visit(slot, f, p)
		}
	}
	return nil
}

// v4Prefix is what addresses are kept behind where they are IPv4 (RFC 4291, section 2.5.5.2).
func v4Prefix() lbAddrPrefix {
	mapped := addrToBPF(netip.IPv4Unspecified())
	return lbAddrPrefix{Word: [3]uint32(mapped.Word[:3])}
}

func addrJoin(prefix lbAddrPrefix, last uint32) lbAddr {
	return lbAddr{Word: [4]uint32{prefix.Word[0], prefix.Word[1], prefix.Word[2], last}}
}

func tuplesFromBPF(f lbFlow, p lbFlowPrefixes) (request, answer lbTuple) {
	if f.Life.Flags&(lbFlowFlagsFLOW_REQUEST_V6|lbFlowFlagsFLOW_ANSWER_V6) == 0 {
		v4 := v4Prefix()
		p = lbFlowPrefixes{RequestSrc: v4, RequestDst: v4, AnswerSrc: v4, AnswerDst: v4}
	}
	tuple := func(src, dst lbAddrPrefix, ends lbFlowEnds) lbTuple {
		return lbTuple{
			Src: addrJoin(src, ends.Src), Dst: addrJoin(dst, ends.Dst),
			Sport: ends.Sport, Dport: ends.Dport, Protocol: f.Life.Protocol,
		}
	}
	return tuple(p.RequestSrc, p.RequestDst, f.Request), tuple(p.AnswerSrc, p.AnswerDst, f.Answer)
}

func flowFromBPF(f lbFlow, p lbFlowPrefixes) Flow {
	request, answer := tuplesFromBPF(f, p)
	flow := Flow{
		Protocol: lb.Protocol(request.Protocol), Forward: forwardFromBPF(f.Life.Forward),
		Client: addrPort(request.Src, request.Sport), VIP: addrPort(request.Dst, request.Dport),
		Backend: addrPort(answer.Src, answer.Sport),
		Phase:   phaseName(f.Life.Phase), LastSeen: f.LastSeen,
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
