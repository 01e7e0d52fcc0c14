package model

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// What becomes of a partial checksum, in each mode: nobody completes it behind a
// virtual interface in native mode; the kernel does in generic mode, and what is
// around it must be right when it has.
func TestPartialChecksums(t *testing.T) {
	for _, forward := range lb.Forwards() {
		for name, p := range map[string]packet.Packet{
			"TCP": packet.NewTCP(netip.MustParseAddrPort(client6), netip.MustParseAddrPort(vip6), packet.SYN, "odd"),
			"UDP": packet.NewUDP(netip.MustParseAddrPort(client6), netip.MustParseAddrPort(vip6), "even"),
		} {
			t.Run(string(forward)+" "+name, func(t *testing.T) {
				p.DstMAC = lb.MAC{2}
				partial := sentOn(t, forward, KeepPartialChecksums, p.PartialFrame())
				completed := sentOn(t, forward, CompleteChecksums, p.PartialFrame())
				left := sentOn(t, forward, FullChecksums, p.PartialFrame())
				if err := packet.Verify(completed, guePort); err != nil {
					t.Errorf("completed: %v", err)
				}
				if packet.Verify(partial, guePort) == nil || packet.Verify(left, guePort) == nil {
					t.Error("somebody has completed what must stay partial")
				}
				at := len(partial) - len(packetBehindIP(p)) + checksumIn(p)
				l4 := partial[len(partial)-len(packetBehindIP(p)):]
				sum := packet.Checksum(l4, 0)
				partial[at], partial[at+1] = byte(sum>>8), byte(sum)
				if !bytes.Equal(partial, completed) {
					t.Errorf("the kernel makes another packet of it:\n%s", packet.Diff(completed, partial))
				}
			})
		}
	}
}

const guePort = 6080

func packetBehindIP(p packet.Packet) []byte { return p.Frame()[ethernetSize+ipv6Size:] }

func checksumIn(p packet.Packet) int {
	if p.Protocol == lb.UDP {
		return udpChecksumAt
	}
	return tcpChecksumAt
}

// sentOn is a frame as it leaves to a backend of IPv6.
func sentOn(t *testing.T, forward lb.Forward, checksums Checksums, frame []byte) []byte {
	t.Helper()
	m := running(t, one(forward, vip6, "[2001:db8:a::2]:0"), Options{Checksums: checksums})
	f := newFlow(parse(frame).tuple, m.services[0], m.services[0].backends[0])
	if forward == lb.ForwardNAT {
		f.answer.dst = netip.MustParseAddrPort("[2001:db8:a::1]:1024")
	}
	return m.send(parse(frame), NewFlow, f, observed{}).frame
}

// The quote of a packet with a partial checksum is completed by the kernel too.
func TestPartialChecksumInAQuote(t *testing.T) {
	p := packet.NewTCP(netip.MustParseAddrPort(client4), netip.MustParseAddrPort(vip4), packet.SYN, "odd")
	p.TTL, p.DstMAC = 1, lb.MAC{2}
	frame := p.PartialFrame()
	m := running(t, one(lb.ForwardNAT, vip4, backend4), Options{Checksums: KeepPartialChecksums})
	d, err := m.decide(parse(frame), Outcome{}, m.list)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(d.frame, frame[ethernetSize:]) {
		t.Error("the quote is not the packet as it came")
	}
	l4 := d.frame[len(d.frame)-tcpSize-3:]
	sum := packet.Checksum(l4, 0)
	l4[tcpChecksumAt], l4[tcpChecksumAt+1] = byte(sum>>8), byte(sum)
	if err := packet.Verify(d.frame); err != nil {
		t.Error(err)
	}
}

// A reset to a segment with a partial checksum has one too.
func TestPartialReset(t *testing.T) {
	p := packet.NewTCP(netip.MustParseAddrPort(client4), netip.MustParseAddrPort(vip4), packet.ACK, "")
	p.DstMAC = lb.MAC{2}
	for checksums, in := range map[Checksums][]byte{
		FullChecksums: p.PartialFrame(), CompleteChecksums: p.PartialFrame(), KeepPartialChecksums: p.PartialFrame(),
	} {
		m := running(t, one(lb.ForwardNAT, vip4, backend4), Options{Checksums: checksums})
		d, err := m.decide(parse(in), Outcome{}, m.list)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := packet.Read(d.frame)
		if err != nil {
			t.Fatal(err)
		}
		want := answer.Frame()
		if checksums == KeepPartialChecksums {
			want = answer.PartialFrame()
		}
		if diff := packet.Diff(want, d.frame); diff != "" {
			t.Errorf("checksums %v:\n%s", checksums, diff)
		}
	}
}
