package lb

import (
	"net/netip"
	"slices"
	"time"
)

// What follows is the configuration as the data plane's tables hold it: ids
// instead of names. The reconciler owns the ids; id 0 is nobody.

// ServiceKey is what a packet's destination is looked up by.
type ServiceKey struct {
	Address  netip.AddrPort
	Protocol Protocol
	// Block is the number of ports that the key stands for, the address's and those
	// after it: a power of two, and the first port a multiple of it. Ranges of ports
	// consist of such blocks, of which the smallest that has a packet's port wins.
	// 0: this port alone, before any block.
	Block uint32
}

// ServiceEntry says how new flows to a ServiceKey are balanced.
type ServiceEntry struct {
	ID          uint32
	Forward     Forward
	Scheduler   Scheduler
	QUIC        QUIC
	Silent      bool   // without a usable backend packets are dropped, not refused
	TableOffset uint32 // first entry in the tables, a multiple of TableChunk
	TableSize   uint32 // 0: no usable backend
}

// ServicePolicy is what a service asks of new flows, beyond what its entries say.
type ServicePolicy struct {
	Name            uint64        // a hash of the service's, where its clients are known by it; else 0
	Interval        time.Duration // between two new flows in the long run; 0: any number may come
	ClientInterval  time.Duration // the same, of one client
	AffinityGroup   uint64        // a hash of its name; 0: no affinity
	AffinityTimeout time.Duration
	SourceRules     uint32 // the number of the service's; 0: none
	OnlyAllowed     bool   // sources that no rule is about may not come
	MaxFlows        uint32 // active ones; 0: any number
	// How much of an address makes a client.
	ClientV4, ClientV6, AffinityV4, AffinityV6 uint8
}

// SourceRules are the sources that may open flows and those that may not, each sorted.
type SourceRules struct {
	Allow, Deny []netip.Prefix
}

// Size is how many they are.
func (r SourceRules) Size() int { return len(r.Allow) + len(r.Deny) }

// Equal reports whether both are the same.
func (r SourceRules) Equal(o SourceRules) bool {
	return slices.Equal(r.Allow, o.Allow) && slices.Equal(r.Deny, o.Deny)
}

// BackendKey is a service's backend by its address.
type BackendKey struct {
	Service uint32
	Address netip.Addr
}

// TableChunk is the granularity of TableOffset.
const TableChunk = 16

// BackendEntry is one backend of one service. An entry with nothing but a
// generation is unused.
type BackendEntry struct {
	Address    netip.AddrPort // port 0: that of the packet
	Service    uint32         // 0: the entry is unused
	NextHop    uint32
	Generation uint32 // grows when an id gets another backend
	SNATFirst  uint32 // index of its first source address
	SNATCount  uint16 // 0: no flow can be source-NATed
	SNATPorts  PortRange
	// TunnelSource is spread over by the flow's hash: the outer source address.
	// A single address has the prefix length of its family; zero: none is known.
	TunnelSource netip.Prefix
	GUEPort      uint16
	Timeouts     uint8  // the number of its flows'; 0: those for all
	TakesFlows   bool   // new ones, while it has a next hop
	MaxFlows     uint32 // active ones; 0: any number
	Weight       uint32
	QUIC         QUIC   // its service's
	MSS          uint16 // of the service
}

// QUICServer is who connection ids of packets to a service name.
type QUICServer struct {
	Service uint32
	ID      string // in lower-case hexadecimal
}

// NearClient says that clients in a prefix would get a service's answers without
// the balancer.
type NearClient struct {
	Service uint32
	Prefix  netip.Prefix
}

// TunnelEnd is what outer packets to a backend have in common.
type TunnelEnd struct {
	Backend netip.Addr
	GUEPort uint16       // 0: ipip
	Source  netip.Prefix // of the outer source addresses
}

// SNATAddress is one source address toward backends.
type SNATAddress struct {
	Address netip.Addr
	IsVIP   bool // its service ports must not be taken for SNAT
}

// ServiceName is what a service id stands for.
type ServiceName struct {
	Name      string
	Address   VIP
	Protocols []Protocol
}

// BackendName is what a backend id stands for.
type BackendName struct {
	Name    string // "" where the config gives none
	Address netip.AddrPort
	Service uint32
	Weight  uint32
}

// Tables is a copy of all configuration tables.
type Tables struct {
	Services      map[ServiceKey]ServiceEntry
	Backends      map[uint32]BackendEntry // unused ones with a generation included
	NextHops      map[uint32]NextHop
	SNATAddresses map[uint32]SNATAddress
	// NearClients has the link that the clients and backends with it share, 0 for any:
	// the client is itself a backend. See NextHop.LinkID.
	NearClients map[NearClient]uint32
	// TunnelEnds has a backend for each.
	TunnelEnds map[TunnelEnd]uint32
	// ForeignVIPs are no addresses of the host.
	ForeignVIPs   map[netip.Addr]VIPAnswers
	InterfaceMTUs map[uint32]uint32        // of IP packets, by interface index
	Policies      map[uint32]ServicePolicy // by service; those that ask for nothing are left out
	SourceRules   map[uint32]SourceRules
	Timeouts      map[uint8]Timeouts // but the first, which are those for all
	// AffinityBackends leads clients to the backend that they have in another service of a group.
	AffinityBackends map[BackendKey]uint32
	QUICServers      map[QUICServer]uint32 // backends, if they can be sent to
	ServiceNames     map[uint32]ServiceName
	BackendNames     map[uint32]BackendName
	Health           map[uint32]*Health // by backend id; only of those that are checked
}

// Settings are what is the same for all packets.
type Settings struct {
	Timeouts    Timeouts
	RateLimits  RateLimits
	Fragments   Fragments
	SmallestMTU uint32 // of all that are known, in bytes of IP packet
}

// BackendCounters is what a backend has carried since it was configured.
type BackendCounters struct {
	PacketsIn  uint64 `json:"packets_in"` // toward the backend
	BytesIn    uint64 `json:"bytes_in"`
	PacketsOut uint64 `json:"packets_out"` // from the backend
	BytesOut   uint64 `json:"bytes_out"`
	Flows      uint64 `json:"flows"` // created
}
