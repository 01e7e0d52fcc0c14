// Package lb holds the plain types of the domain: what a user configures and
// what the balancer knows about the world. It imports nothing of tinylb's.
package lb

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Protocol is an IP protocol number (IANA "Assigned Internet Protocol Numbers").
type Protocol uint8

const (
	TCP Protocol = 6
	UDP Protocol = 17
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return "protocol-?"
}

// Forward is how a packet reaches the backend.
type Forward string

const (
	// ForwardNAT rewrites destination and source, as the tutorial does.
	ForwardNAT Forward = "nat"
	// ForwardDNAT rewrites the destination alone; backends route back through the balancer.
	ForwardDNAT Forward = "dnat"
	// ForwardDSR rewrites only Ethernet addresses; the backend has the VIP itself.
	ForwardDSR Forward = "dsr"
	// ForwardIPIP puts the packet into an IP packet (RFC 2003, 2473, 4213).
	ForwardIPIP Forward = "ipip"
	// ForwardGUE puts the packet into UDP (draft-ietf-intarea-gue, variant 0).
	ForwardGUE Forward = "gue"
)

// Forwards lists them all.
func Forwards() []Forward {
	return []Forward{ForwardNAT, ForwardDNAT, ForwardDSR, ForwardIPIP, ForwardGUE}
}

// Translates reports whether addresses are rewritten and answers pass the balancer.
func (f Forward) Translates() bool { return f == ForwardNAT || f == ForwardDNAT }

// Tunnels reports whether packets are encapsulated.
func (f Forward) Tunnels() bool { return f == ForwardIPIP || f == ForwardGUE }

// Scheduler is how a new flow gets its backend.
type Scheduler string

const (
	// Maglev is consistent hashing: Eisenbud et al., "Maglev: A Fast and
	// Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
	Maglev Scheduler = "maglev"
	// Random picks by weight, once per flow.
	Random Scheduler = "random"
	// LeastConn picks the better of two backends drawn by weight: the one with fewer active flows
	// for its weight (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
	LeastConn Scheduler = "least-conn"
)

// Schedulers lists them all.
func Schedulers() []Scheduler { return []Scheduler{Maglev, Random, LeastConn} }

// Mode is where the XDP program runs.
type Mode string

const (
	ModeAuto    Mode = "auto"
	ModeNative  Mode = "native"
	ModeGeneric Mode = "generic"
)

// PortRange is an inclusive range of ports.
type PortRange struct {
	First, Last uint16
}

// Size is the number of ports in the range.
func (r PortRange) Size() int { return int(r.Last) - int(r.First) + 1 }

// Overlaps reports whether the two ranges share a port.
func (r PortRange) Overlaps(o PortRange) bool { return r.First <= o.Last && o.First <= r.Last }

// AllPorts is what `*` stands for.
func AllPorts() PortRange { return PortRange{0, 65535} }

// OnePort is a range with nothing but that port.
func OnePort(port uint16) PortRange { return PortRange{port, port} }

// Contains reports whether a port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// VIP is a virtual address and the ports of it that a service has.
type VIP struct {
	Addr  netip.Addr
	Ports PortRange
}

// VIPAt is a VIP with one port.
func VIPAt(a netip.AddrPort) VIP { return VIP{a.Addr(), OnePort(a.Port())} }

// Contains reports whether packets to an address and port are for the VIP.
func (v VIP) Contains(a netip.AddrPort) bool {
	return v.Addr == a.Addr() && v.Ports.Contains(a.Port())
}

// IsOnePort reports whether the VIP is neither a range of ports nor all of them.
func (v VIP) IsOnePort() bool { return v.Ports.First == v.Ports.Last }

// String is the VIP as config files have it: 192.17.0.5:80, [2001:db8::5]:80,
// 192.17.0.5:8000-8100 or 192.17.0.5:*.
func (v VIP) String() string {
	port := strconv.Itoa(int(v.Ports.First))
	switch {
	case v.Ports == AllPorts():
		port = "*"
	case !v.IsOnePort():
		port += "-" + strconv.Itoa(int(v.Ports.Last))
	}
	return net.JoinHostPort(v.Addr.String(), port)
}

// MarshalText is String.
func (v VIP) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (v *VIP) UnmarshalText(text []byte) error {
	host, ports, err := net.SplitHostPort(string(text))
	if err != nil {
		return fmt.Errorf("a VIP: %w", err)
	}
	if v.Addr, err = netip.ParseAddr(host); err != nil {
		return fmt.Errorf("a VIP: %w", err)
	}
	if ports == "*" {
		v.Ports = AllPorts()
		return nil
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	a, errFirst := strconv.ParseUint(first, 10, 16)
	b, errLast := strconv.ParseUint(last, 10, 16)
	if errFirst != nil || errLast != nil || a > b {
		return fmt.Errorf("a VIP: %q is no port and no range of ports", ports)
	}
	v.Ports = PortRange{uint16(a), uint16(b)}
	return nil
}

// SNAT says which source addresses and ports stand for the client toward a
// backend. No addresses means: the host's own address toward each backend.
type SNAT struct {
	Addresses []netip.Addr
	Ports     PortRange
}

// Tunnel says what the outer headers of ipip and gue carry.
type Tunnel struct {
	// Sources are the prefixes that the outer source address is spread over by
	// the flow's hash, at most one of each family. None of the backend's family:
	// the host's own address toward the backend.
	Sources []netip.Prefix
	Port    uint16 // destination port of gue
}

// QUIC says how servers write their ids into connection ids, in plain text
// (draft-ietf-quic-load-balancers-21).
type QUIC struct {
	ConfigID       uint8 // of connection ids: their first three bits, 0 to 6
	ServerIDLength uint8 // in bytes, 1 to 15; 0: connection ids do not matter
}

// Backend is one address:port behind a service.
type Backend struct {
	Name    string         // "" where the config gives none
	Address netip.AddrPort // port 0: that of the packet
	Weight  uint32         // 0 takes no new flow
	// MaxFlows is how many active flows it may have before new ones go elsewhere; 0: any number.
	MaxFlows uint32 `json:",omitzero"`
}

// ClientRate bounds how fast each client may open flows. A client is whoever has an address with the
// same first bits.
type ClientRate struct {
	NewFlowsPerSecond  uint32 // 0: any number
	PrefixV4, PrefixV6 uint8
}

// Affinity has a client keep its backend over flows. A client is whoever has an address with the same
// first bits.
type Affinity struct {
	Timeout            time.Duration // since its last new flow; 0: there is no affinity
	PrefixV4, PrefixV6 uint8
	Group              string // of services that share their clients' backends; "": this service alone
}

// Label is the backend's name, or its address where it has none.
func (b Backend) Label() string {
	if b.Name != "" {
		return b.Name
	}
	if b.Address.Port() == 0 {
		return b.Address.Addr().String()
	}
	return b.Address.String()
}

// Service is a virtual address and how it is balanced.
type Service struct {
	Name      string
	Address   VIP
	Protocols []Protocol // sorted, no duplicates
	Forward   Forward
	Scheduler Scheduler
	// TableSize is the length of the Maglev table, a prime; 0 means auto:
	// 100 x backends, rounded up to one of maglev.Sizes.
	TableSize uint32
	// Allow and Deny are the sources that may open flows and those that may not; the longest prefix
	// that has an address counts. What none has may come, unless there are any in Allow. Both sorted, no
	// prefix twice.
	Allow, Deny       []netip.Prefix
	MaxFlows          uint32 // active ones at a time; 0: any number
	NewFlowsPerSecond uint32 // 0: any number
	PerClient         ClientRate
	Affinity          Affinity
	Timeouts          Timeouts // the zero ones: those of the config
	QUIC              QUIC     `json:",omitzero"`
	// Silent: who comes while there is no usable backend is not told.
	Silent bool
	// MSS is what SYNs may say at most that a segment may have, in bytes: 0 is any,
	// MSSAuto what fits into the packets.
	MSS uint16
	// ServerIDs are what QUIC connection ids call the backends, by address, in lower-case
	// hexadecimal; nil without QUIC. (They are not in Backend, of which there are many.)
	ServerIDs map[netip.AddrPort]string `json:",omitempty"`
	SNAT      SNAT
	Tunnel    Tunnel
	Check     *Check // nil: backends are not checked
	Backends  []Backend
}

// MSSAuto stands for the MSS that fits.
const MSSAuto = 65535

// Timeouts say how long a flow without packets lives, per state.
type Timeouts struct {
	TCPUnconfirmed time.Duration // no packet from the client after the backend's answer
	TCPEstablished time.Duration
	TCPHalfClosed  time.Duration // FIN from one side
	TCPClosed      time.Duration // FIN from both sides, or RST
	UDPUnconfirmed time.Duration // a single request and its answer
	UDPStream      time.Duration
}

// RateLimits bound what the data plane says of its own accord: so many a second
// each, in bursts of a tenth of that; 0 is never.
type RateLimits struct {
	Resets     uint32 // TCP RST
	ICMPErrors uint32 // time exceeded, unreachable
	// EchoReplies are for VIPs that are no address of the host.
	EchoReplies uint32
}

// VIPAnswers says what the data plane answers for VIPs that are no address of the host.
type VIPAnswers struct {
	Echo       bool // ICMP and ICMPv6 echo requests
	Neighbours bool // ARP requests and neighbour solicitations: who has it?
}

// SolicitedNode is the group that those ask who look for the MAC of an IPv6 address
// (RFC 4291, section 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	whole := a.As16()
	copy(group[13:], whole[13:])
	return netip.AddrFrom16(group)
}

// Fragments bound what is kept of fragments that come before the first of their datagram.
type Fragments struct {
	Held    uint32        // frames
	Bytes   uint32        // of these frames together
	Timeout time.Duration // for the first fragment to come; then, without another one, for the datagram
}

// Limits size the kernel's maps. They are fixed while the data plane is loaded.
type Limits struct {
	Flows        uint32
	Services     uint32
	Backends     uint32
	TableEntries uint32 // all Maglev tables together
	Prefixes     uint32 // in the lists of sources of all services together
	Clients      uint32 // whose new flows are counted for their rate
	Affinity     uint32 // clients with a backend that they keep
	Held         uint32 // what Fragments.Held may be at most
}

// Config is everything a config file says, validated and with defaults filled in.
type Config struct {
	Interfaces []string
	Mode       Mode
	Services   []Service
	Timeouts   Timeouts
	RateLimits RateLimits
	Fragments  Fragments
	Answers    VIPAnswers
	Limits     Limits
	// Seed makes other Maglev tables; nodes that are to give the same answers have the same.
	Seed uint32 `json:",omitempty"`
}

// BackendAddresses lists every distinct backend address, sorted.
func (c Config) BackendAddresses() []netip.Addr {
	var all []netip.Addr
	for _, s := range c.Services {
		for _, b := range s.Backends {
			all = append(all, b.Address.Addr())
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// MAC is an Ethernet address.
type MAC [6]byte

// MaxVLAN is the largest id of a VLAN (IEEE 802.1Q, table 9-2).
const MaxVLAN = 4094

// VLANAsItCame stands for the VLAN of a next hop that is known without it: frames
// keep the tags that they came with.
const VLANAsItCame = 0x8000

// How large the IP packets of an interface may be: what IPv4 needs at least (RFC 791,
// section 3.2), and what it can say.
const (
	LeastMTU = 68
	MostMTU  = 65535
)

// NextHop is where packets toward an address leave, or why they cannot.
type NextHop struct {
	Interface int        // index of the interface they leave by
	MAC       MAC        // of the neighbour they go to
	SourceMAC MAC        // of the interface; zero: whatever the packet was sent to
	VLAN      uint16     // id of the tag that frames leave with; 0: without one; or VLANAsItCame
	MTU       int        // of the interface, in bytes of IP packet; 0: not known
	Source    netip.Addr // the host's own address toward it
	// Link is the prefix of the addresses that the neighbour shares a link with:
	// their packets to each other do not pass here. Zero: it is behind a router.
	Link    netip.Prefix
	Routed  bool   // it is behind a router
	Problem string // why it is not usable; "" when it is
}

// InterfaceBits is how many bits the index of an attached interface, or of one that
// packets leave by, may have.
const InterfaceBits = 20

// LinkID is one number for interface and VLAN. It is that of the interface alone for
// frames without a tag, or with one that is not known.
func (n NextHop) LinkID() uint32 {
	const vlanIDs = 1<<12 - 1
	return uint32(n.Interface) | uint32(n.VLAN&vlanIDs)<<InterfaceBits
}

// Usable reports whether packets can be sent by this next hop.
func (n NextHop) Usable() bool { return n.Problem == "" }
