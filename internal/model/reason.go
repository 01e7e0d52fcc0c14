package model

// Verdict is what becomes of a frame, by its name in commands and docs.
type Verdict string

const (
	Pass     Verdict = "PASS"
	TX       Verdict = "TX"
	Redirect Verdict = "REDIRECT"
	Drop     Verdict = "DROP"
	Aborted  Verdict = "ABORTED"
)

// Reason is why, by its name in docs/commands.md.
type Reason string

const (
	NewFlow       Reason = "new-flow"
	Forwarded     Reason = "forwarded"
	Reply         Reason = "reply"
	NotIP         Reason = "not-ip"
	NotOurs       Reason = "not-ours"
	OtherMAC      Reason = "other-mac"
	BadIPHeader   Reason = "bad-ip-header"
	ManyHeaders   Reason = "many-headers"
	OtherProtocol Reason = "other-protocol"
	Truncated     Reason = "truncated"
	Malformed     Reason = "malformed"
	Fragment      Reason = "fragment"
	NoFlow        Reason = "no-flow"
	NoBackend     Reason = "no-backend"
	NoNextHop     Reason = "no-next-hop"
	BackendGone   Reason = "backend-gone"
	FlowTableFull Reason = "flow-table-full"
	FlowTableBusy Reason = "flow-table-busy" // takes two CPUs; the model has one
	SNATExhausted Reason = "snat-exhausted"
	ICMP          Reason = "icmp"
	NewFlowSNAT   Reason = "new-flow-snat"
	TTLExpired    Reason = "ttl-expired"
	TooBig        Reason = "too-big"
	SourceRoute   Reason = "source-route"
	Neighbour     Reason = "neighbour"
	MTUExceeded   Reason = "mtu-exceeded"
	Echo          Reason = "echo"
	ICMPError     Reason = "icmp-error"
	PathMTUSet    Reason = "path-mtu"

	SourceDenied    Reason = "source-denied"
	ClientRate      Reason = "client-rate"
	ServiceRate     Reason = "service-rate"
	MaxFlowsService Reason = "max-flows-service"
	MaxFlowsBackend Reason = "max-flows-backend"

	FragmentHeld      Reason = "fragment-held"
	FragmentOverlap   Reason = "fragment-overlap"
	FragmentTiny      Reason = "fragment-tiny"
	FragmentDuplicate Reason = "fragment-duplicate"
	FragmentFull      Reason = "fragment-full"
	NoChecksum        Reason = "no-checksum"
)

// Reasons lists all of them.
func Reasons() []Reason {
	return []Reason{
		NewFlow, Forwarded, Reply, NotIP, NotOurs, OtherMAC, BadIPHeader, ManyHeaders, OtherProtocol, Truncated, Malformed,
		Fragment, NoFlow, NoBackend, NoNextHop, BackendGone, FlowTableFull, FlowTableBusy, SNATExhausted,
		FragmentHeld, FragmentOverlap, FragmentTiny, FragmentDuplicate, FragmentFull, NoChecksum,
		ICMP, NewFlowSNAT, TTLExpired, TooBig, SourceRoute, Neighbour, MTUExceeded, Echo, ICMPError,
		PathMTUSet, SourceDenied, ClientRate, ServiceRate, MaxFlowsService, MaxFlowsBackend,
	}
}

// drops is the verdict on a frame that is for a service but cannot reach it.
func (r Reason) drops() Verdict {
	if r == Truncated {
		return Aborted
	}
	return Drop
}

// forwards reports whether packets that end so have been sent on, and count for
// a backend.
func (r Reason) forwards() bool {
	return r == NewFlow || r == NewFlowSNAT || r == Forwarded || r == Reply
}
