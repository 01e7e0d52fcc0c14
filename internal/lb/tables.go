package lb

import "net/netip"

// What follows is the configuration as the data plane's tables hold it: ids
// instead of names. The reconciler owns the ids; id 0 is nobody.

// ServiceKey is what a packet's destination is looked up by.
type ServiceKey struct {
	Address  netip.AddrPort
	Protocol Protocol
}

// ServiceEntry says how new flows to a ServiceKey are balanced.
type ServiceEntry struct {
	ID          uint32
	Random      bool
	TableOffset uint32 // first entry in the tables, a multiple of TableChunk
	TableSize   uint32 // 0: no usable backend
}

// TableChunk is the granularity of TableOffset.
const TableChunk = 16

// BackendEntry is one backend of one service.
type BackendEntry struct {
	Address    netip.AddrPort
	Service    uint32
	NextHop    uint32
	Generation uint32 // grows when an id gets another backend
	SNATFirst  uint32 // index of its first source address
	SNATCount  uint16 // 0: the entry is unused
	SNATPorts  PortRange
}

// SNATAddress is one source address toward backends.
type SNATAddress struct {
	Address netip.Addr
	IsVIP   bool // its service ports must not be taken for SNAT
}

// ServiceName is what a service id stands for.
type ServiceName struct {
	Name      string
	Address   netip.AddrPort
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
	ServiceNames  map[uint32]ServiceName
	BackendNames  map[uint32]BackendName
}

// BackendCounters is what a backend has carried since it was configured.
type BackendCounters struct {
	PacketsIn  uint64 `json:"packets_in"` // toward the backend
	BytesIn    uint64 `json:"bytes_in"`
	PacketsOut uint64 `json:"packets_out"` // from the backend
	BytesOut   uint64 `json:"bytes_out"`
	Flows      uint64 `json:"flows"` // created
}
