package model

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// leastMTUv4 is what every link takes (RFC 791, section 3.2).
const leastMTUv4 = 68

// SetMTUs says how long IP packets may be on interfaces, by index.
func (m *Model) SetMTUs(mtus map[int]int) { m.mtus = mtus }

// way is how long packets may be where one would leave.
type way struct {
	linkMTU int // 0: not known
	mtu     int // of the whole path, as far as it is known; 0: not known
}

func (m *Model) wayOf(why Reason, f *flow) way {
	mtu := f.backend.hop.MTU
	if why == Reply {
		mtu = m.mtus[m.opts.Interface]
	}
	w := way{mtu, mtu}
	path := m.pathMTUs[f.target.Addr()]
	if f.forward.Tunnels() && path.Until.After(m.now) && (mtu == 0 || path.MTU < mtu) {
		w.mtu = path.MTU
	}
	return w
}

// size is the length of the packet, as IP says.
func (p *parsed) size() int { return p.end - p.ip }

// sizeOut is how long the packet will be when it leaves for the flow's other side.
func (p *parsed) sizeOut(why Reason, f *flow) int {
	switch {
	case f.forward == lb.ForwardIPIP:
		return p.size() + headerSize(f.target.Addr())
	case f.forward == lb.ForwardGUE:
		return p.size() + headerSize(f.target.Addr()) + udpSize + gueSize
	case f.translates(p, why): // all headers go but one
		return len(p.l4Bytes()) + headerSize(f.destination(why)) + p.pieceHeader()
	}
	return p.size()
}

// pieceHeader is the size of what an IPv4 fragment needs in IPv6 (RFC 7915, section 4.1).
func (p *parsed) pieceHeader() int {
	if p.piece != nil && p.isIPv4() {
		return fragmentHeaderSize
	}
	return 0
}

// destination is where a packet goes.
func (f *flow) destination(why Reason) netip.Addr {
	if why == Reply {
		return f.request.src.Addr()
	}
	return f.target.Addr()
}

// translates reports whether a packet leaves in the other family.
func (f *flow) translates(p *parsed, why Reason) bool {
	return f.forward.Translates() && f.destination(why).Is4() != p.isIPv4()
}

func headerSize(a netip.Addr) int {
	if a.Is4() {
		return ipv4Size
	}
	return ipv6Size
}

// isMerged reports whether the kernel has put the packet together from several. Longer
// than its link allows none can have come. In generic mode, whose packets come that way,
// it is also one of TCP that is longer than the other side's link allows, and thus
// than the segments that it asks for (RFC 9293, section 3.7.1): their checksums are left to
// the kernel.
func (m *Model) isMerged(p *parsed, w way) bool {
	if mtu := m.mtus[m.opts.Interface]; mtu > 0 && p.size() > mtu {
		return true
	}
	return p.tuple.protocol == lb.TCP && m.staysPartial(p) && p.size() > w.linkMTU
}

// mayBeFragmented reports whether a packet that leaves with a size may do so in pieces.
func (p *parsed) mayBeFragmented(why Reason, f *flow, size int) bool {
	switch {
	case p.isIPv4():
		return !p.mustNotBeFragmented()
	case f.forward.Tunnels(): // RFC 2473, section 7.1; RFC 4213, section 3.2
		return p.size() <= leastMTU
	}
	return f.translates(p, why) && (p.fragmentID != nil || size <= wholeSize) // RFC 7915, section 5.1
}

// fitting is how a packet fits into where it leaves.
type fitting int

const (
	asItIs fitting = iota
	inPieces
	notAtAll
)

// judgeLength says how a packet fits, and how long those may be that do.
func (m *Model) judgeLength(p *parsed, why Reason, f *flow) (limit int, fits fitting) {
	w, size := m.wayOf(why, f), p.sizeOut(why, f)
	switch {
	case w.mtu == 0 || size <= w.mtu || m.isMerged(p, w):
		return w.mtu, asItIs
	case p.mayBeFragmented(why, f, size):
		return w.mtu, inPieces
	}
	return w.mtu, notAtAll
}

// allowed is how long the packets of a sender may be if they may have a length on their
// way (RFC 1191, section 4; RFC 8201, section 4).
func (p *parsed) allowed(why Reason, f *flow, limit int) int {
	mtu := limit
	switch {
	case f.forward.Tunnels(): // RFC 2003, section 5.1
		mtu -= p.sizeOut(why, f) - p.size()
	case f.translates(p, why): // RFC 7915, sections 4.2 and 5.2
		mtu += headerSize(p.tuple.dst.Addr()) - headerSize(f.destination(why)) - p.pieceHeader()
	}
	if p.isIPv4() {
		return max(mtu, leastMTUv4)
	}
	return max(mtu, leastMTU)
}
