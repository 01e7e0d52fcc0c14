package model

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// Pools larger than this need not be searched whole for every packet while a moment
// ago nothing in them was free. In that time any flow may give way that ever does, and
// none may be found.
const (
	smallPool = 128
	moment    = 4 * time.Microsecond // at most, for each place
)

// A flow may lie in either of two buckets of the flow table. So a table of two is
// searched whole; in larger ones, of whole buckets, those two can be full, and are all that is
// looked at, as soon as four fifths of the table are.
const smallTable = 2 * lb.FlowBucket

// places is what new flows compete for: the slots of the flow table, or the
// sources toward a backend.
type places struct {
	size    int
	needed  []*flow // those in places that must not be lost
	taken   int     // the places that they have
	doubted int     // places that may be taken or free
	hurried bool    // not all of them are looked at
}

// look counts who has places, of which there are size; has tells how many a flow has.
func (m *Model) look(size int, has func(*flow) int) places {
	p := places{size: size}
	for f := range m.flows.all {
		switch n := has(f); {
		case n == 0:
		case m.needed(f):
			p.needed, p.taken = append(p.needed, f), p.taken+n
		case m.alive(f) && f.doubtful:
			p.doubted += n
		}
	}
	return p
}

func (m *Model) lookAtTable() places {
	size := int(lb.FlowSlots(m.limits.Flows))
	p := m.look(size, func(*flow) int { return 1 })
	p.hurried = size > smallTable && p.taken+p.doubted >= size*4/5
	return p
}

func (m *Model) lookAtPool(size int, has func(*flow) int) places {
	p := m.look(size, has)
	p.hurried = size > smallPool && m.now.Before(m.poolFull)
	if until := m.now.Add(time.Duration(size) * moment); p.mayBeFull() && until.After(m.poolFull) {
		m.poolFull = until
	}
	return p
}

// mayBeFree and mayBeFull are both true where the model cannot know.
func (p places) mayBeFree() bool { return p.taken < p.size }
func (p places) mayBeFull() bool { return p.hurried || p.taken+p.doubted >= p.size }

// somebodyYields reports whether any of the flows gives way.
func (p places) somebodyYields() bool {
	return slices.ContainsFunc(p.needed, func(f *flow) bool { return f.phase().yields() >= 0 })
}

// mayBeRefused and mustBeRefused say whether a new flow gets no place.
func (p places) mayBeRefused() bool  { return p.hurried || p.mayBeFull() && !p.somebodyYields() }
func (p places) mustBeRefused() bool { return !p.mayBeFree() && !p.somebodyYields() }

// mayLose is an error unless a flow was the right one to give way: closed ones
// go before unconfirmed before idle UDP, and among those the longest idle.
func (p places) mayLose(victim *flow) error {
	turn := victim.phase().yields()
	switch {
	case !p.mayBeFull():
		return fmt.Errorf("%v had to give way, although only %d of %d places are taken", victim.listed(), p.taken, p.size)
	case turn < 0:
		return fmt.Errorf("%v had to give way, which flows in its phase never do", victim.listed())
	case p.hurried:
		return nil
	}
	for _, f := range p.needed {
		if other := f.phase().yields(); other >= 0 && (other < turn || other == turn && f.seen.Before(victim.seen)) {
			return fmt.Errorf("%v had to give way, although it was the turn of %v", victim.listed(), f.listed())
		}
	}
	return nil
}

// makeRoom sees to it that the flow table has room for a flow more. One of those
// in it may have had to go; only the flow table itself tells which. It returns
// FlowTableFull if the new flow cannot have a slot.
func (m *Model) makeRoom(got observed) (Reason, error) {
	slots := m.lookAtTable()
	if !slots.mayBeFull() {
		return "", nil
	}
	gone, err := missing(slots.needed, got)
	if err != nil {
		return "", err
	}
	refused := slots.mustBeRefused() || got.Reason == FlowTableFull && slots.mayBeRefused()
	switch {
	case refused && len(gone) == 0:
		return FlowTableFull, nil
	case !refused && len(gone) == 0 && slots.mayBeFree():
		return "", nil
	case refused || len(gone) != 1:
		return "", fmt.Errorf("the flow table is full; got %s, and %d flows had to give way: %v", got.Reason, len(gone), list(gone))
	}
	if err := slots.mayLose(gone[0]); err != nil {
		return "", err
	}
	m.flows.remove(gone[0])
	return "", nil
}

// missing lists the flows that are no longer in the table.
func missing(flows []*flow, got observed) ([]*flow, error) {
	listed, err := got.list()
	if err != nil {
		return nil, err
	}
	there := map[tuple]bool{}
	for _, f := range listed {
		there[tuple{f.Protocol, f.Client, f.VIP}] = true
	}
	return slices.DeleteFunc(slices.Clone(flows), func(f *flow) bool { return there[f.request] }), nil
}

func list(flows []*flow) []Flow {
	var all []Flow
	for _, f := range flows {
		all = append(all, f.listed())
	}
	return all
}

// takeSource checks the source address and port of a new flow: any of the pool
// that no flow to the backend has; if there is none, that of the flow which
// gives way first. It returns SNATExhausted if no flow does. The source is zero
// if the new flow found one but no slot.
func (m *Model) takeSource(f *flow, p *parsed, got observed) (netip.AddrPort, Reason, error) {
	pool := m.poolOf(f)
	sources := m.lookAtPool(pool.size(), func(other *flow) (taken int) {
		for _, t := range other.keys() { // the backend may ask, too: what was a VIP once
			if t.protocol == p.tuple.protocol && t.src == f.target && pool.has(t.dst) {
				taken++
			}
		}
		return taken
	})
	switch {
	case sources.mustBeRefused() || got.Reason == SNATExhausted && sources.mayBeRefused():
		return netip.AddrPort{}, SNATExhausted, nil
	case got.Reason == FlowTableFull && sources.mayBeFree():
		return netip.AddrPort{}, "", nil
	}
	source, err := sourceOf(f, got)
	if err != nil {
		return netip.AddrPort{}, "", err
	}
	if !source.IsValid() {
		return source, "", fmt.Errorf("got %v, want a new flow: %d of %d sources toward %v are taken",
			got.Outcome, sources.taken, sources.size, f.target)
	}
	if !pool.has(source) {
		return source, "", fmt.Errorf("got source %v, want one of %v, ports %d-%d, and no service",
			source, pool.addresses, pool.ports.First, pool.ports.Last)
	}
	victim := m.flows.byTuple[tuple{p.tuple.protocol, f.target, source}]
	if victim == nil || !m.needed(victim) {
		return source, "", nil
	}
	if err := sources.mayLose(victim); err != nil {
		return source, "", fmt.Errorf("got source %v: %w", source, err)
	}
	m.flows.remove(victim)
	return source, "", nil
}

// sourceOf reads the source of a new flow from its packet or, where that could not
// be sent, from the flow table; zero: there is no such flow.
func sourceOf(f *flow, got observed) (netip.AddrPort, error) {
	if got.Verdict.sends() && got.Reason != MTUExceeded {
		return sourceIn(got.Frame), nil
	}
	afterwards := []Reason{TooBig, SourceRoute, MTUExceeded, NoChecksum, ManyHeaders, FragmentFull}
	if !slices.Contains(afterwards, got.Reason) {
		return netip.AddrPort{}, nil
	}
	listed, err := got.list()
	for _, other := range listed {
		if other.Protocol == f.request.protocol && other.Client == f.request.src && other.VIP == f.request.dst {
			return other.Source, err
		}
	}
	return netip.AddrPort{}, err
}

// sourceIn reads the source address and port from a frame; zero if that cannot be.
func sourceIn(frame []byte) netip.AddrPort {
	sent := parse(frame)
	if !sent.hasPorts {
		return netip.AddrPort{}
	}
	return sent.tuple.src
}

func (v Verdict) sends() bool { return v == TX || v == Redirect }

// pool is the sources that may stand for clients toward a backend.
type pool struct {
	addresses []netip.Addr
	ports     lb.PortRange
	taboo     []netip.AddrPort // answers to them would look like requests
}

func (m *Model) poolOf(f *flow) pool {
	result := pool{addresses: f.backend.sources, ports: f.service.config.SNAT.Ports}
	for _, other := range m.services {
		vip := other.config.Address
		if vip.IsOnePort() && slices.Contains(other.config.Protocols, f.request.protocol) {
			result.taboo = append(result.taboo, netip.AddrPortFrom(vip.Addr, vip.Ports.First))
		}
	}
	if f.request.src == f.target && !slices.Contains(result.taboo, f.request.dst) { // the backend is the client
		result.taboo = append(result.taboo, f.request.dst)
	}
	return result
}

func (l pool) inRange(a netip.AddrPort) bool {
	return slices.Contains(l.addresses, a.Addr()) && l.ports.Contains(a.Port())
}

func (l pool) has(a netip.AddrPort) bool { return l.inRange(a) && !slices.Contains(l.taboo, a) }

func (l pool) size() int {
	size := len(l.addresses) * l.ports.Size()
	for _, a := range l.taboo {
		if l.inRange(a) {
			size--
		}
	}
	return size
}
