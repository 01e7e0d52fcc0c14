package model

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// tags is a frame with so many VLAN tags.
func tags(frame []byte, n int) []byte {
	for range n {
		frame = append(append(bytes.Clone(frame[:12]), 0x81, 0, 0, 7), frame[12:]...)
	}
	return frame
}

// behind puts extension headers before a packet of IPv6's segment.
func behind(frame []byte, headers ...[]byte) []byte {
	ip, rest := bytes.Clone(frame[:ethernetSize+ipv6Size]), frame[ethernetSize+ipv6Size:]
	next := ip[ethernetSize+6]
	for i := len(headers) - 1; i >= 0; i-- {
		kind := headers[i][0]
		header := append([]byte{next}, headers[i][1:]...)
		next, rest = kind, append(header, rest...)
	}
	ip[ethernetSize+6] = next
	binary.BigEndian.PutUint16(ip[ethernetSize+4:], uint16(len(rest)))
	return append(ip, rest...)
}

// What is for a service but has too many headers is dropped; what is for nobody
// passes; what goes on to another node is not ours.
func TestHeaders(t *testing.T) {
	options := []byte{60, 0, 1, 4, 0, 0, 0, 0}
	part := []byte{44, 0, 0, 1, 0, 0, 0, 0}
	route := []byte{43, 0, 4, 0, 0, 0, 0, 0}
	onItsWay := []byte{43, 0, 4, 1, 0, 0, 0, 0}
	long := []byte{43, 200, 4, 1, 0, 0, 0, 0}
	hops := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	times := func(n int, header []byte) (all [][]byte) {
		for range n {
			all = append(all, header)
		}
		return all
	}
	frame4, frame6 := fromClient(t, syn4), fromClient(t, syn6)
	for name, tc := range map[string]struct {
		frame   []byte
		verdict Verdict // of a packet to the service
		reason  Reason
		other   Reason // of one to another port, which passes
	}{
		"two tags":                        {tags(frame4, 2), Redirect, NewFlow, NotOurs},
		"three tags":                      {tags(frame4, 3), Drop, ManyHeaders, ManyHeaders},
		"four tags":                       {tags(frame6, 4), Drop, ManyHeaders, ManyHeaders},
		"five tags":                       {tags(frame4, 5), Pass, NotIP, NotIP},
		"three tags of a cut packet":      {tags(frame4, 3)[:60], Drop, ManyHeaders, ManyHeaders},
		"six extension headers":           {behind(frame6, times(6, options)...), Redirect, NewFlow, NotOurs},
		"seven":                           {behind(frame6, times(7, options)...), Drop, ManyHeaders, ManyHeaders},
		"32":                              {behind(frame6, times(32, options)...), Drop, ManyHeaders, ManyHeaders},
		"33":                              {behind(frame6, times(33, options)...), Pass, ManyHeaders, ManyHeaders},
		"a fragment, then seven more":     {behind(frame6, append([][]byte{part}, times(7, options)...)...), Drop, Malformed, Malformed},
		"seven, then a fragment":          {behind(frame6, append(times(7, options), part)...), Drop, ManyHeaders, ManyHeaders},
		"a route at its end":              {behind(frame6, route), Redirect, NewFlow, NotOurs},
		"a route that goes on":            {behind(frame6, onItsWay), Pass, NotOurs, NotOurs},
		"a route that goes on, seventh":   {behind(frame6, append(times(6, options), onItsWay)...), Pass, NotOurs, NotOurs},
		"a route that is too long":        {behind(frame6, long), Pass, Truncated, Truncated},
		"hop-by-hop options in the midst": {behind(frame6, options, hops), Pass, BadIPHeader, BadIPHeader},
	} {
		t.Run(name, func(t *testing.T) {
			vip := vip4
			if parse(tc.frame).unreadable == "" && parse(tc.frame).isIPv6() {
				vip = vip6
			}
			m := running(t, one(lb.ForwardDSR, vip, "10.0.0.2:0"), Options{})
			d, err := m.decide(parse(tc.frame), Outcome{}, m.list)
			if err != nil || d.verdict != tc.verdict || d.reason != tc.reason {
				t.Errorf("got %v, error %v", d.outcome(), err)
			}
			otherPort := netip.AddrPortFrom(netip.MustParseAddrPort(vip).Addr(), 1)
			m = running(t, one(lb.ForwardDSR, otherPort.String(), "10.0.0.2:0"), Options{})
			d, err = m.decide(parse(tc.frame), Outcome{}, m.list)
			if err != nil || d.verdict != Pass || d.reason != tc.other || !bytes.Equal(d.frame, tc.frame) {
				t.Errorf("to another port: got %v, error %v", d.outcome(), err)
			}
		})
	}
}

// ICMP is told from ICMPv6 by the IP header before it.
func TestICMP(t *testing.T) {
	m := running(t, one(lb.ForwardNAT, vip4, backend4), Options{})
	echo := func(protocol lb.Protocol) []byte {
		p := packet.NewEcho(netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.5"), 1, 1, "ping")
		p.Protocol = protocol
		return p.Frame()
	}
	for protocol, want := range map[lb.Protocol]Reason{packet.ICMP: ICMP, packet.ICMPv6: OtherProtocol, 47: OtherProtocol} {
		d, err := m.decide(parse(echo(protocol)), Outcome{}, m.list)
		if err != nil || d.verdict != Pass || d.reason != want {
			t.Errorf("protocol %d: got %v, error %v", protocol, d.outcome(), err)
		}
	}
}
