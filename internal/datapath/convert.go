package datapath

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/tinylb/tinylb/internal/lb"
)

// network turns a port's byte order round, either way.
func network(port uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(port >> 8), byte(port)})
}

func addrToBPF(a netip.Addr) lbAddr {
	var out lbAddr
	bytes := a.As16()
	for i := range out.Word {
		out.Word[i] = binary.NativeEndian.Uint32(bytes[4*i:])
	}
	return out
}

func addrFromBPF(a lbAddr) netip.Addr {
	var bytes [16]byte
	for i, word := range a.Word {
		binary.NativeEndian.PutUint32(bytes[4*i:], word)
	}
	return netip.AddrFrom16(bytes).Unmap()
}

func addrPort(a lbAddr, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(addrFromBPF(a), network(port))
}

func nameToBPF(name string) (out [64]int8) {
	textToBPF(out[:], name)
	return out
}

func nameFromBPF(name [64]int8) string { return textFromBPF(name[:]) }

// textToBPF writes as much of a text as there is room for with a zero behind it.
func textToBPF(out []int8, text string) {
	for i := range min(len(text), len(out)-1) {
		out[i] = int8(text[i])
	}
}

func textFromBPF(text []int8) string {
	var out bytes.Buffer
	for _, c := range text {
		if c == 0 {
			break
		}
		out.WriteByte(byte(c))
	}
	return out.String()
}

// serviceBlockBits is how much of a block's key counts when it is one port alone.
const serviceBlockBits = 8 * uint32(unsafe.Sizeof(lbServiceKey{}))

func serviceBlockToBPF(key lb.ServiceKey) lbServiceBlock {
	free := uint32(bits.Len32(key.Block)) - 1 // Block is a power of two
	return lbServiceBlock{Bits: serviceBlockBits - free, Key: serviceKeyToBPF(key)}
}

func serviceBlockFromBPF(block lbServiceBlock) lb.ServiceKey {
	key := serviceKeyFromBPF(block.Key)
	key.Block = 1 << (serviceBlockBits - block.Bits)
	return key
}

func serviceKeyToBPF(key lb.ServiceKey) lbServiceKey {
	return lbServiceKey{
		Address:  addrToBPF(key.Address.Addr()),
		Port:     network(key.Address.Port()),
		Protocol: uint8(key.Protocol),
	}
}

func serviceKeyFromBPF(key lbServiceKey) lb.ServiceKey {
	return lb.ServiceKey{Address: addrPort(key.Address, key.Port), Protocol: lb.Protocol(key.Protocol)}
}

func serviceToBPF(entry lb.ServiceEntry) lbService {
	var flags lbServiceFlags
	switch entry.Scheduler {
	case lb.Random:
		flags |= lbServiceFlagsSERVICE_RANDOM
	case lb.LeastConn:
		flags |= lbServiceFlagsSERVICE_LEAST_CONN
	}
	if entry.Silent {
		flags |= lbServiceFlagsSERVICE_SILENT
	}
	return lbService{
		Id: entry.ID, Forward: forwardToBPF(entry.Forward), Flags: flags, Quic: quicToBPF(entry.QUIC),
		TableOffset: entry.TableOffset, TableSize: entry.TableSize,
	}
}

func schedulerFromBPF(flags lbServiceFlags) lb.Scheduler {
	switch {
	case flags&lbServiceFlagsSERVICE_RANDOM != 0:
		return lb.Random
	case flags&lbServiceFlagsSERVICE_LEAST_CONN != 0:
		return lb.LeastConn
	}
	return lb.Maglev
}

func quicToBPF(q lb.QUIC) lbQuicLayout {
	return lbQuicLayout{Config: q.ConfigID, IdLength: q.ServerIDLength}
}

func quicFromBPF(q lbQuicLayout) lb.QUIC {
	return lb.QUIC{ConfigID: q.Config, ServerIDLength: q.IdLength}
}

func quicServerToBPF(s lb.QUICServer) (lbQuicServer, error) {
	key := lbQuicServer{Service: s.Service}
	id, err := hex.DecodeString(s.ID)
	if err != nil || len(id) > len(key.Id) {
		return key, fmt.Errorf("%q is no server id for QUIC connection ids", s.ID)
	}
	key.IdLength = uint8(copy(key.Id[:], id))
	return key, nil
}

func quicServerFromBPF(key lbQuicServer) lb.QUICServer {
	return lb.QUICServer{Service: key.Service, ID: hex.EncodeToString(key.Id[:key.IdLength])}
}

// forwards lists the modes by their numbers in the data plane.
func forwards() []lb.Forward {
	return []lb.Forward{
		lbForwardModeFORWARD_NAT:  lb.ForwardNAT,
		lbForwardModeFORWARD_DNAT: lb.ForwardDNAT,
		lbForwardModeFORWARD_DSR:  lb.ForwardDSR,
		lbForwardModeFORWARD_IPIP: lb.ForwardIPIP,
		lbForwardModeFORWARD_GUE:  lb.ForwardGUE,
	}
}

func forwardToBPF(f lb.Forward) lbForwardMode {
	return lbForwardMode(max(0, slices.Index(forwards(), f)))
}

// forwardFromBPF is "" for a mode that this version does not know.
func forwardFromBPF(mode lbForwardMode) lb.Forward {
	if all := forwards(); int(mode) < len(all) {
		return all[mode]
	}
	return ""
}

func serviceFromBPF(s lbService) lb.ServiceEntry {
	return lb.ServiceEntry{
		ID:          s.Id,
		Forward:     forwardFromBPF(s.Forward),
		Scheduler:   schedulerFromBPF(s.Flags),
		QUIC:        quicFromBPF(s.Quic),
		Silent:      s.Flags&lbServiceFlagsSERVICE_SILENT != 0,
		TableOffset: s.TableOffset,
		TableSize:   s.TableSize,
	}
}

func policyToBPF(p lb.ServicePolicy) lbPolicy {
	return lbPolicy{
		Name: p.Name, Interval: uint64(p.Interval), ClientInterval: uint64(p.ClientInterval),
		AffinityGroup: p.AffinityGroup, AffinityTimeout: uint64(p.AffinityTimeout),
		SourceRules: p.SourceRules, OnlyAllowed: bit(p.OnlyAllowed), MaxFlows: p.MaxFlows,
		ClientBitsV4: mappedLength(p.ClientV4), ClientBitsV6: p.ClientV6,
		AffinityBitsV4: mappedLength(p.AffinityV4), AffinityBitsV6: p.AffinityV6,
	}
}

func policyFromBPF(p lbPolicy) lb.ServicePolicy {
	return lb.ServicePolicy{
		Name: p.Name, Interval: time.Duration(p.Interval), ClientInterval: time.Duration(p.ClientInterval),
		AffinityGroup: p.AffinityGroup, AffinityTimeout: time.Duration(p.AffinityTimeout),
		SourceRules: p.SourceRules, OnlyAllowed: p.OnlyAllowed != 0, MaxFlows: p.MaxFlows,
		ClientV4: p.ClientBitsV4 - mappedLength(0), ClientV6: p.ClientBitsV6,
		AffinityV4: p.AffinityBitsV4 - mappedLength(0), AffinityV6: p.AffinityBitsV6,
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// mappedLength is that of an IPv4 prefix in the form that both families have in common.
func mappedLength(bits uint8) uint8 { return 96 + bits }

func sourcePrefixToBPF(rules uint32, prefix netip.Prefix) lbSourcePrefix {
	const before = 2 * 32 // bits of the rules and the family
	return lbSourcePrefix{
		Bits:  uint32(before + mappedBits(prefix.Addr()) + prefix.Bits()),
		Rules: rules, IsV6: uint32(bit(prefix.Addr().Is6())), Address: addrToBPF(prefix.Addr()),
	}
}

func sourcePrefixFromBPF(p lbSourcePrefix) netip.Prefix {
	const before = 2 * 32
	address := addrFromBPF(p.Address)
	return netip.PrefixFrom(address, int(p.Bits)-before-mappedBits(address))
}

func timeoutsToBPF(t lb.Timeouts) lbTimeouts {
	var out lbTimeouts
	out.Of[lbFlowPhasePHASE_TCP_UNCONFIRMED] = uint64(t.TCPUnconfirmed)
	out.Of[lbFlowPhasePHASE_TCP_ESTABLISHED] = uint64(t.TCPEstablished)
	out.Of[lbFlowPhasePHASE_TCP_HALF_CLOSED] = uint64(t.TCPHalfClosed)
	out.Of[lbFlowPhasePHASE_TCP_CLOSED] = uint64(t.TCPClosed)
	out.Of[lbFlowPhasePHASE_UDP_UNCONFIRMED] = uint64(t.UDPUnconfirmed)
	out.Of[lbFlowPhasePHASE_UDP_STREAM] = uint64(t.UDPStream)
	return out
}

func timeoutsFromBPF(t lbTimeouts) lb.Timeouts {
	return lb.Timeouts{
		TCPUnconfirmed: time.Duration(t.Of[lbFlowPhasePHASE_TCP_UNCONFIRMED]),
		TCPEstablished: time.Duration(t.Of[lbFlowPhasePHASE_TCP_ESTABLISHED]),
		TCPHalfClosed:  time.Duration(t.Of[lbFlowPhasePHASE_TCP_HALF_CLOSED]),
		TCPClosed:      time.Duration(t.Of[lbFlowPhasePHASE_TCP_CLOSED]),
		UDPUnconfirmed: time.Duration(t.Of[lbFlowPhasePHASE_UDP_UNCONFIRMED]),
		UDPStream:      time.Duration(t.Of[lbFlowPhasePHASE_UDP_STREAM]),
	}
}

func backendKeyToBPF(k lb.BackendKey) lbBackendKey {
	return lbBackendKey{Service: k.Service, Address: addrToBPF(k.Address)}
}

func backendKeyFromBPF(k lbBackendKey) lb.BackendKey {
	return lb.BackendKey{Service: k.Service, Address: addrFromBPF(k.Address)}
}

func backendToBPF(entry lb.BackendEntry) lbBackend {
	out := lbBackend{
		NextHop:       entry.NextHop,
		Generation:    entry.Generation,
		Service:       entry.Service,
		SnatFirst:     entry.SNATFirst,
		SnatCount:     uint8(entry.SNATCount), // 64 at most
		SnatPortFirst: entry.SNATPorts.First,
		SnatPortLast:  entry.SNATPorts.Last,
		GuePort:       network(entry.GUEPort),
		Timeouts:      entry.Timeouts,
		Quic:          quicToBPF(entry.QUIC),
		Mss:           entry.MSS,
	}
	if entry.TakesFlows {
		out.Flags |= lbBackendFlagsBACKEND_TAKES_FLOWS
	}
	if source := entry.TunnelSource; source.IsValid() {
		out.TunnelSource = addrToBPF(source.Addr())
		out.TunnelSourceBits = uint8(source.Bits() + mappedBits(source.Addr()))
	}
	if entry.Address.IsValid() {
		out.Address, out.Port = addrToBPF(entry.Address.Addr()), network(entry.Address.Port())
	}
	return out
}

func backendPolicyToBPF(entry lb.BackendEntry) lbBackendPolicy {
	return lbBackendPolicy{MaxFlows: entry.MaxFlows, Weight: entry.Weight}
}

func backendFromBPF(b lbBackend) lb.BackendEntry {
	out := lb.BackendEntry{
		Service:    b.Service,
		NextHop:    b.NextHop,
		Generation: b.Generation,
		SNATFirst:  b.SnatFirst,
		SNATCount:  uint16(b.SnatCount),
		SNATPorts:  lb.PortRange{First: b.SnatPortFirst, Last: b.SnatPortLast},
		GUEPort:    network(b.GuePort),
		Timeouts:   b.Timeouts,
		TakesFlows: b.Flags&lbBackendFlagsBACKEND_TAKES_FLOWS != 0,
		QUIC:       quicFromBPF(b.Quic),
		MSS:        b.Mss,
	}
	if b.TunnelSourceBits != 0 {
		source := addrFromBPF(b.TunnelSource)
		out.TunnelSource = netip.PrefixFrom(source, int(b.TunnelSourceBits)-mappedBits(source))
	}
	if b.Service != 0 {
		out.Address = addrPort(b.Address, b.Port)
	}
	return out
}

// mappedBits come before an address in the form that both families have in common.
func mappedBits(a netip.Addr) int { return 128 - a.BitLen() }

func nearClientToBPF(n lb.NearClient) lbNearClient {
	const serviceBits = 32
	return lbNearClient{
		Bits:    uint32(serviceBits + mappedBits(n.Prefix.Addr()) + n.Prefix.Bits()),
		Service: n.Service,
		Address: addrToBPF(n.Prefix.Masked().Addr()),
	}
}

func nearClientFromBPF(n lbNearClient) lb.NearClient {
	const serviceBits = 32
	address := addrFromBPF(n.Address)
	return lb.NearClient{
		Service: n.Service,
		Prefix:  netip.PrefixFrom(address, int(n.Bits)-serviceBits-mappedBits(address)),
	}
}

// tunnelEndBits come before the source in a tunnel's ends.
const tunnelEndBits = 8 * uint32(unsafe.Offsetof(lbTunnelEnd{}.Source)-unsafe.Offsetof(lbTunnelEnd{}.Backend))

func tunnelEndToBPF(end lb.TunnelEnd) lbTunnelEnd {
	return lbTunnelEnd{
		Bits:    tunnelEndBits + uint32(mappedBits(end.Source.Addr())+end.Source.Bits()),
		Backend: addrToBPF(end.Backend),
		GuePort: network(end.GUEPort),
		Source:  addrToBPF(end.Source.Masked().Addr()),
	}
}

func tunnelEndFromBPF(end lbTunnelEnd) lb.TunnelEnd {
	source := addrFromBPF(end.Source)
	return lb.TunnelEnd{
		Backend: addrFromBPF(end.Backend),
		GUEPort: network(end.GuePort),
		Source:  netip.PrefixFrom(source, int(end.Bits-tunnelEndBits)-mappedBits(source)),
	}
}

func foreignVIPToBPF(answers lb.VIPAnswers) (out lbForeignVip) {
	if answers.Echo {
		out.Answers |= lbVipAnswersVIP_ANSWERS_ECHO
	}
	if answers.Neighbours {
		out.Answers |= lbVipAnswersVIP_ANSWERS_NEIGHBOURS
	}
	return out
}

func foreignVIPFromBPF(v lbForeignVip) lb.VIPAnswers {
	return lb.VIPAnswers{
		Echo:       v.Answers&lbVipAnswersVIP_ANSWERS_ECHO != 0,
		Neighbours: v.Answers&lbVipAnswersVIP_ANSWERS_NEIGHBOURS != 0,
	}
}

func nextHopToBPF(hop lb.NextHop) lbNextHop {
	if !hop.Usable() {
		return lbNextHop{}
	}
	return lbNextHop{
		Interface: uint32(hop.Interface), Mac: hop.MAC, SourceMac: hop.SourceMAC,
		Vlan: hop.VLAN, Mtu: uint16(min(hop.MTU, math.MaxUint16)),
	}
}

func nextHopFromBPF(hop lbNextHop) lb.NextHop {
	return lb.NextHop{
		Interface: int(hop.Interface), MAC: hop.Mac, SourceMAC: hop.SourceMac,
		VLAN: hop.Vlan, MTU: int(hop.Mtu),
	}
}

func serviceNameToBPF(n lb.ServiceName) lbServiceName {
	out := lbServiceName{
		Name:      nameToBPF(n.Name),
		Address:   addrToBPF(n.Address.Addr),
		PortFirst: network(n.Address.Ports.First),
		PortLast:  network(n.Address.Ports.Last),
	}
	for _, p := range n.Protocols {
		switch p {
		case lb.TCP:
			out.Tcp = 1
		case lb.UDP:
			out.Udp = 1
		}
	}
	return out
}

func serviceNameFromBPF(n lbServiceName) lb.ServiceName {
	ports := lb.PortRange{First: network(n.PortFirst), Last: network(n.PortLast)}
	out := lb.ServiceName{Name: nameFromBPF(n.Name), Address: lb.VIP{Addr: addrFromBPF(n.Address), Ports: ports}}
	if n.Tcp != 0 {
		out.Protocols = append(out.Protocols, lb.TCP)
	}
	if n.Udp != 0 {
		out.Protocols = append(out.Protocols, lb.UDP)
	}
	return out
}

func backendNameToBPF(n lb.BackendName) lbBackendName {
	return lbBackendName{
		Name:    nameToBPF(n.Name),
		Address: addrToBPF(n.Address.Addr()),
		Port:    network(n.Address.Port()),
		Weight:  n.Weight,
		Service: n.Service,
	}
}

func backendNameFromBPF(n lbBackendName) lb.BackendName {
	return lb.BackendName{
		Name:    nameFromBPF(n.Name),
		Address: addrPort(n.Address, n.Port),
		Weight:  n.Weight,
		Service: n.Service,
	}
}
