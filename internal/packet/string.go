package packet

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
)

// String is the packet in one line, such as
// "10.0.0.1:1234 > 10.0.0.2:80 tcp SYN,ACK seq=1 ack=2 len=0". A packet within an
// IP packet, and what an ICMP error quotes, follow in parentheses.
func (p Packet) String() string {
	var line strings.Builder
	for _, tag := range p.VLAN {
		fmt.Fprintf(&line, "vlan %d ", tag.ID())
	}
	switch p.transport() {
	case lb.TCP:
		fmt.Fprintf(&line, "%v > %v tcp %v seq=%d", p.Src, p.Dst, p.Flags, p.Seq)
		if p.Flags&ACK != 0 {
			fmt.Fprintf(&line, " ack=%d", p.Ack)
		}
	case lb.UDP:
		fmt.Fprintf(&line, "%v > %v udp", p.Src, p.Dst)
	case ICMP, ICMPv6:
		fmt.Fprintf(&line, "%v > %v %s type=%d code=%d rest=%#x",
			p.Src.Addr(), p.Dst.Addr(), protocolName(p.Protocol), p.ICMPType, p.ICMPCode, p.ICMPRest)
	default:
		fmt.Fprintf(&line, "%v > %v %s", p.Src.Addr(), p.Dst.Addr(), protocolName(p.Protocol))
	}
	if p.IsFragment() {
		fmt.Fprintf(&line, " fragment id=%d offset=%d", p.ID, 8*int(p.FragmentOffset))
		if p.MoreFragments {
			line.WriteString("+")
		}
	}
	fmt.Fprintf(&line, " len=%d", len(p.Payload))
	if inner, err := p.Inner(); err == nil {
		fmt.Fprintf(&line, " (%v)", inner)
	} else if quoted, err := p.Quoted(); err == nil {
		fmt.Fprintf(&line, " (%v > %v %s)", quoted.Src, quoted.Dst, protocolName(quoted.Protocol))
	}
	return line.String()
}

// String lists the flags, such as "SYN,ACK", or says "none".
func (f TCPFlags) String() string {
	if f == 0 {
		return "none"
	}
	var names []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if reserved := f >> 8; reserved != 0 {
		names = append(names, fmt.Sprintf("reserved=%#x", uint16(reserved)))
	}
	return strings.Join(names, ",")
}

func protocolName(p lb.Protocol) string {
	switch p {
	case lb.TCP:
		return "tcp"
	case lb.UDP:
		return "udp"
	case ICMP:
		return "icmp"
	case ICMPv6:
		return "icmp6"
	case IPv4InIP:
		return "ipip"
	case IPv6InIP:
		return "ip6ip"
	}
	return fmt.Sprintf("protocol-%d", uint8(p))
}

func macString(b []byte) string { return net.HardwareAddr(b).String() }

func addrString(b []byte) string {
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return hexString(b)
	}
	return addr.String()
}

func hexString(b []byte) string { return fmt.Sprintf("%#x", b) }
