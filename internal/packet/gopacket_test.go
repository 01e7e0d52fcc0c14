package packet

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/tinylb/tinylb/internal/lb"
)

func netipPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}

// plainPacket is a random packet of the kinds that gopacket, too, can write
// without changing them.
func plainPacket(r *rand.Rand) Packet {
	p := randomPacket(r)
	p.Protocol = []lb.Protocol{lb.TCP, lb.UDP}[r.IntN(2)]
	p.MoreFragments, p.FragmentOffset = false, 0
	p.IPOptions, p.Trailer, p.NoUDPChecksum = nil, nil, false
	p.ICMPType, p.ICMPCode, p.ICMPRest = 0, 0, 0
	p.Flags, p.Seq, p.Ack, p.Window, p.Urgent, p.TCPOptions = 0, 0, 0, 0, 0, nil
	p = withTransport(r, p)
	p.NoUDPChecksum, p.TCPOptions = false, nil
	p.Flags &= 0xff
	return p
}

// serialize writes the packet with gopacket, lengths and checksums by gopacket too.
func serialize(t *testing.T, p Packet) []byte {
	t.Helper()
	src, dst := p.Src.Addr().AsSlice(), p.Dst.Addr().AsSlice()
	networkType := layers.EthernetTypeIPv4
	var network gopacket.SerializableLayer
	var pseudoHeader gopacket.NetworkLayer
	if p.Src.Addr().Is4() {
		var flags layers.IPv4Flag
		if p.DontFragment {
			flags |= layers.IPv4DontFragment
		}
		if p.ReservedFlag {
			flags |= layers.IPv4EvilBit
		}
		ip := &layers.IPv4{Version: 4, TOS: p.TOS, Id: p.ID, Flags: flags, TTL: p.TTL,
			Protocol: layers.IPProtocol(p.Protocol), SrcIP: src, DstIP: dst}
		network, pseudoHeader = ip, ip
	} else {
		networkType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, TrafficClass: p.TOS, FlowLabel: p.FlowLabel, HopLimit: p.TTL,
			NextHeader: layers.IPProtocol(p.Protocol), SrcIP: src, DstIP: dst}
		network, pseudoHeader = ip, ip
	}
	list := append(linkLayers(p, networkType), network)
	if p.Protocol == lb.TCP {
		f := func(flag TCPFlags) bool { return p.Flags&flag != 0 }
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.Src.Port()), DstPort: layers.TCPPort(p.Dst.Port()),
			Seq: p.Seq, Ack: p.Ack, Window: p.Window, Urgent: p.Urgent,
			FIN: f(FIN), SYN: f(SYN), RST: f(RST), PSH: f(PSH), ACK: f(ACK), URG: f(URG), ECE: f(ECE), CWR: f(CWR)}
		must(t, tcp.SetNetworkLayerForChecksum(pseudoHeader))
		list = append(list, tcp)
	} else {
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.Src.Port()), DstPort: layers.UDPPort(p.Dst.Port())}
		must(t, udp.SetNetworkLayerForChecksum(pseudoHeader))
		list = append(list, udp)
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	must(t, gopacket.SerializeLayers(buffer, options, append(list, gopacket.Payload(p.Payload))...))
	return buffer.Bytes()
}

func linkLayers(p Packet, next layers.EthernetType) []gopacket.SerializableLayer {
	ethernet := &layers.Ethernet{SrcMAC: p.SrcMAC[:], DstMAC: p.DstMAC[:], EthernetType: next}
	list := []gopacket.SerializableLayer{ethernet}
	before := &ethernet.EthernetType
	for _, tag := range p.VLAN {
		*before = layers.EthernetType(tag.Type)
		dot1q := &layers.Dot1Q{Priority: uint8(tag.Control >> 13), DropEligible: tag.Control>>12&1 == 1,
			VLANIdentifier: tag.ID(), Type: next}
		list = append(list, dot1q)
		before = &dot1q.Type
	}
	return list
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gopacket is the second opinion on what these frames must look like.
func TestGopacketWritesTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for i := range 5_000 {
		p := plainPacket(random)
		want := serialize(t, p)
		p.Trailer = nonEmpty(make([]byte, max(0, 60-len(p.Frame())))) // gopacket pads to Ethernet's minimum
		if diff := Diff(want, p.Frame()); diff != "" {
			t.Fatalf("packet %d, %v:\n%s", i, p, diff)
		}
		if got, err := Read(want); err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("packet %d: error %v\n got %+v\nwant %+v", i, err, got, p)
		}
	}
}

func TestGopacketReadsTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for i := range 5_000 {
		p := plainPacket(random)
		decoded := gopacket.NewPacket(p.Frame(), layers.LayerTypeEthernet, gopacket.Default)
		network := decoded.NetworkLayer().NetworkFlow()
		transport, ok := decoded.TransportLayer().(interface {
			gopacket.TransportLayer
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		})
		if !ok {
			t.Fatalf("packet %d, %v: no transport layer", i, p)
		}
		must(t, transport.SetNetworkLayerForChecksum(decoded.NetworkLayer()))
		if network.Src().String() != p.Src.Addr().String() || network.Dst().String() != p.Dst.Addr().String() {
			t.Fatalf("packet %d: %v became %v", i, p, network)
		}
		if string(transport.LayerPayload()) != string(p.Payload) {
			t.Fatalf("packet %d, %v: another payload", i, p)
		}
		if err, mismatches := decoded.VerifyChecksums(); err != nil || len(mismatches) > 0 {
			t.Fatalf("packet %d, %v: checksums %v, %v", i, p, mismatches, err)
		}
	}
}
