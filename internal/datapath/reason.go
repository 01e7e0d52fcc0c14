package datapath

// Verdict is what became of a packet.
type Verdict uint32

func (v Verdict) String() string {
	switch lbVerdict(v) {
	case lbVerdictVERDICT_ABORTED:
		return "ABORTED"
	case lbVerdictVERDICT_DROP:
		return "DROP"
	case lbVerdictVERDICT_PASS:
		return "PASS"
	case lbVerdictVERDICT_TX:
		return "TX"
	case lbVerdictVERDICT_REDIRECT:
		return "REDIRECT"
	}
	return "unknown"
}

// Sends reports whether the packet left by an interface.
func (v Verdict) Sends() bool {
	return lbVerdict(v) == lbVerdictVERDICT_TX || lbVerdict(v) == lbVerdictVERDICT_REDIRECT
}

// Reason is why a packet got its verdict.
type Reason uint32

// Reasons lists every reason that a packet can leave with.
func Reasons() []Reason {
	var all []Reason
	for r := lbReasonREASON_NONE + 1; r < lbReasonREASON_COUNT; r++ {
		all = append(all, Reason(r))
	}
	return all
}

// String is the reason's name in commands, metrics and docs.
func (r Reason) String() string {
	switch lbReason(r) {
	case lbReasonREASON_NOT_IP:
		return "not-ip"
	case lbReasonREASON_NOT_OURS:
		return "not-ours"
	case lbReasonREASON_OTHER_MAC:
		return "other-mac"
	case lbReasonREASON_BAD_IP_HEADER:
		return "bad-ip-header"
	case lbReasonREASON_OTHER_PROTOCOL:
		return "other-protocol"
	case lbReasonREASON_NEW_FLOW:
		return "new-flow"
	case lbReasonREASON_FORWARDED:
		return "forwarded"
	case lbReasonREASON_REPLY:
		return "reply"
	case lbReasonREASON_TRUNCATED:
		return "truncated"
	case lbReasonREASON_MALFORMED:
		return "malformed"
	case lbReasonREASON_FRAGMENT:
		return "fragment"
	case lbReasonREASON_NO_FLOW:
		return "no-flow"
	case lbReasonREASON_NO_BACKEND:
		return "no-backend"
	case lbReasonREASON_NO_NEXT_HOP:
		return "no-next-hop"
	case lbReasonREASON_BACKEND_GONE:
		return "backend-gone"
	case lbReasonREASON_FLOW_TABLE_FULL:
		return "flow-table-full"
	case lbReasonREASON_MANY_HEADERS:
		return "many-headers"
	case lbReasonREASON_SNAT_EXHAUSTED:
		return "snat-exhausted"
	case lbReasonREASON_ICMP:
		return "icmp"
	case lbReasonREASON_NEW_FLOW_SNAT:
		return "new-flow-snat"
	case lbReasonREASON_TTL_EXPIRED:
		return "ttl-expired"
	case lbReasonREASON_TOO_BIG:
		return "too-big"
	case lbReasonREASON_SOURCE_ROUTE:
		return "source-route"
	case lbReasonREASON_MTU_EXCEEDED:
		return "mtu-exceeded"
	case lbReasonREASON_FLOW_TABLE_BUSY:
		return "flow-table-busy"
	case lbReasonREASON_SOURCE_DENIED:
		return "source-denied"
	case lbReasonREASON_CLIENT_RATE:
		return "client-rate"
	case lbReasonREASON_SERVICE_RATE:
		return "service-rate"
	case lbReasonREASON_MAX_FLOWS_SERVICE:
		return "max-flows-service"
	case lbReasonREASON_MAX_FLOWS_BACKEND:
		return "max-flows-backend"
	case lbReasonREASON_FRAGMENT_HELD:
		return "fragment-held"
	case lbReasonREASON_FRAGMENT_OVERLAP:
		return "fragment-overlap"
	case lbReasonREASON_FRAGMENT_TINY:
		return "fragment-tiny"
	case lbReasonREASON_FRAGMENT_DUPLICATE:
		return "fragment-duplicate"
	case lbReasonREASON_FRAGMENT_FULL:
		return "fragment-full"
	case lbReasonREASON_NO_CHECKSUM:
		return "no-checksum"
	case lbReasonREASON_NEIGHBOUR:
		return "neighbour"
	case lbReasonREASON_ECHO:
		return "echo"
	case lbReasonREASON_ICMP_ERROR:
		return "icmp-error"
	case lbReasonREASON_PATH_MTU:
		return "path-mtu"
	}
	return "unknown"
}
