package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/model"
)

// Kind is what packets for a service are tallied by.
type Kind struct {
	Forward lb.Forward // the flow's, or the service's where there is no flow
	Client  family
	Backend family // "" where none was chosen
	Fate    Fate
}

// Fate is a reason, and whether the sender was told.
type Fate struct {
	Reason   model.Reason
	Answered bool
}

func fateOf(got model.Outcome) Fate {
	mayBe := got.Reason == model.NoFlow || got.Reason == model.NoBackend || got.Reason == model.TTLExpired || got.Reason == model.MTUExceeded
	return Fate{got.Reason, mayBe && got.Verdict != model.Drop}
}

func (f Fate) String() string {
	if f.Answered {
		return string(f.Reason) + " (answered)"
	}
	return string(f.Reason)
}

// Way is how and between whom: "nat v4-v6".
func (k Kind) Way() string {
	way := string(k.Forward) + " " + string(k.Client)
	if k.Backend != "" {
		way += "-" + string(k.Backend)
	}
	return way
}

func (k Kind) String() string { return fmt.Sprintf("%s, %v", k.Way(), k.Fate) }

// Kinds lists all that packets for a service could be of.
func Kinds() []Kind {
	told := func(reason model.Reason) []Fate { return []Fate{{reason, false}, {reason, true}} }
	flaws := []Fate{{Reason: model.Truncated}, {Reason: model.Malformed}, {Reason: model.FragmentOverlap}, {Reason: model.FragmentTiny}, {Reason: model.ManyHeaders}}
	either := append(told(model.TTLExpired), flaws...)
	withoutBackend := slices.Concat(told(model.NoFlow), told(model.NoBackend), []Fate{{Reason: model.BackendGone}})
	withBackend := []Fate{
		{Reason: model.NewFlow}, {Reason: model.NewFlowSNAT}, {Reason: model.Forwarded}, {Reason: model.Reply}, {Reason: model.NoNextHop},
		{Reason: model.FlowTableFull}, {Reason: model.SNATExhausted}, {Reason: model.TooBig}, {Reason: model.SourceRoute}, {Reason: model.ICMPError},
		{Reason: model.FragmentDuplicate}, {Reason: model.NoChecksum},
	}
	withBackend = append(withBackend, told(model.MTUExceeded)...)
	var all []Kind
	for _, forward := range lb.Forwards() {
		for _, client := range families() {
			for _, fate := range append(withoutBackend, either...) {
				all = append(all, Kind{forward, client, "", fate})
			}
			for _, backend := range families() {
				for _, fate := range append(withBackend, either...) {
					all = append(all, Kind{forward, client, backend, fate})
				}
			}
		}
	}
	return all
}

// ways lists the kinds of forwarding, whatever becomes of the packets; nat and
// dnat, where the most can become of them, twice.
func ways() (all []Kind) {
	for _, k := range Kinds() {
		if k.Fate.Reason != model.NewFlow || k.Impossible() != "" {
			continue
		}
		k.Fate = Fate{}
		all = append(all, k)
		if k.Forward.Translates() {
			all = append(all, k)
		}
	}
	return all
}

// Impossible is why there can be no packet of a kind; "" if there can.
func (k Kind) Impossible() string {
	f, reason := k.Forward, k.Fate.Reason
	switch {
	case f == lb.ForwardDNAT && k.crosses():
		return "the client's address stays in the packet"
	case reason == model.NewFlowSNAT && f != lb.ForwardDNAT:
		return "only dnat keeps the source address where it can"
	case reason == model.Reply && !f.Translates():
		return "answers do not pass here"
	case reason == model.TTLExpired && !f.Translates():
		return "the packet stays as it is"
	case reason == model.NoFlow && f != lb.ForwardNAT:
		return "any segment opens a flow: another node may have known it"
	case reason == model.SNATExhausted && !f.Translates():
		return "the source stays as it is"
	case reason == model.SourceRoute && (f != lb.ForwardNAT || !k.crosses()):
		return "it can stay in IPv4"
	case reason == model.NoChecksum && (f != lb.ForwardNAT || !k.crosses()):
		return "it needs none"
	case reason == model.TooBig:
		return k.neverTooBig()
	}
	return ""
}

func (k Kind) neverTooBig() string {
	switch {
	case k.Forward == lb.ForwardNAT && !k.crosses(), k.Forward == lb.ForwardDNAT, k.Forward == lb.ForwardDSR:
		return "the packet's length stays as it is"
	case k.Forward == lb.ForwardIPIP && k.Client == ipv4 && k.Backend == ipv6:
		return "IPv6 does not count its own header, so any IPv4 packet fits"
	}
	return ""
}

func (k Kind) crosses() bool { return k.Backend != "" && k.Client != k.Backend }

// kind says what a packet that was for a service was. List lists the flow table;
// it is called only where the packet and its fate do not tell.
func (t *Traffic) kind(frame Frame, got model.Outcome, list func() ([]model.Flow, error)) (Kind, error) {
	s, b := t.world.named(got)
	k := Kind{Forward: s.Forward, Client: clients(s), Fate: fateOf(got)}
	if got.Backend != "" {
		k.Backend = familyOf(b.Address.Addr())
	}
	from, ok := readEnds(frame)
	datagram, isLater := datagramOf(frame)
	about, isError := readQuotedEnds(frame)
	switch {
	case isLater:
		from, ok = t.firsts[datagram]
	case datagram != "" && ok:
		t.firsts[datagram] = from
	case isError:
		from = about.reversed()
	}
	switch {
	case !ok:
		return k, nil
	case got.Reason == model.NewFlow, got.Reason == model.NewFlowSNAT:
		t.ways[from] = way{s.Forward, clients(s)}
		if out, ok := readEnds(got.Frame); ok && s.Forward.Translates() {
			t.ways[out.reversed()] = t.ways[from]
		}
	case got.Reason == model.TooBig, got.Reason == model.SourceRoute, got.Reason == model.MTUExceeded, got.Reason == model.NoChecksum,
		got.Reason == model.ManyHeaders, got.Reason == model.ICMPError: // the flow may be a new one, or have ended
		flows, err := list()
		if err != nil {
			return k, err
		}
		delete(t.ways, from)
		t.learn(flows)
	case !ofKnownFlow(got):
		return k, nil
	}
	if w, known := t.ways[from]; known {
		k.Forward, k.Client = w.forward, w.client
	}
	return k, nil
}

// way is how a flow goes, whatever its service says since, and the family of its client.
type way struct {
	forward lb.Forward
	client  family
}

func ofKnownFlow(got model.Outcome) bool {
	refused := got.Reason == model.FlowTableFull || got.Reason == model.SNATExhausted
	return got.Backend != "" && !refused || got.Reason == model.BackendGone
}

// learn takes over which way flows go.
func (t *Traffic) learn(flows []model.Flow) {
	for _, f := range flows {
		w := way{f.Forward, familyOf(f.VIP.Addr())}
		t.ways[ends{f.Protocol, f.Client, f.VIP}] = w
		if f.Forward.Translates() {
			t.ways[ends{f.Protocol, f.Backend, f.Source}] = w
		}
	}
}

// Tally is what happened to how many packets.
type Tally struct {
	Packets    int
	ForService int // for a service or one of its flows
	Imprecise  uint64
	Sweeps     int
	Reasons    map[model.Reason]int
	Kinds      map[Kind]int // of those for a service
}

func newTally() *Tally { return &Tally{Reasons: map[model.Reason]int{}, Kinds: map[Kind]int{}} }

func (t *Tally) String() string {
	var lines strings.Builder
	fmt.Fprintf(&lines, "%d packets, %d for a service, %d sweeps\n", t.Packets, t.ForService, t.Sweeps)
	reasons := model.Reasons()
	slices.SortFunc(reasons, func(a, b model.Reason) int { return t.Reasons[b] - t.Reasons[a] })
	for _, why := range reasons {
		fmt.Fprintf(&lines, "%8d %s\n", t.Reasons[why], why)
	}
	fates := map[string][]string{}
	var order []string
	for _, k := range Kinds() {
		if !slices.Contains(order, k.Way()) {
			order = append(order, k.Way())
		}
		if n := t.Kinds[k]; n > 0 || k.Impossible() == "" {
			fates[k.Way()] = append(fates[k.Way()], fmt.Sprintf("%v %d", k.Fate, n))
		}
	}
	for _, way := range order {
		if len(fates[way]) > 0 {
			fmt.Fprintf(&lines, "%-10s %s\n", way, strings.Join(fates[way], ", "))
		}
	}
	return lines.String()
}
