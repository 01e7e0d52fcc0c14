// Package lb holds the plain types of the domain: what a user configures and
// what the balancer knows about the world. It imports nothing of tinylb's.
package lb

import (
	"net/netip"
	"slices"
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

// ForwardNAT rewrites destination and source, as the tutorial does.
const ForwardNAT Forward = "nat"

// Scheduler is how a new flow gets its backend.
type Scheduler string

const (
	// Maglev is consistent hashing: Eisenbud et al., "Maglev: A Fast and
	// Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
	Maglev Scheduler = "maglev"
	// Random picks by weight, once per flow.
	Random Scheduler = "random"
)

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

// SNAT says which source addresses and ports stand for the client toward a
// backend. No addresses means: the host's own address toward each backend.
type SNAT struct {
	Addresses []netip.Addr
	Ports     PortRange
}

// Backend is one address:port behind a service.
type Backend struct {
	Name    string // "" where the config gives none
	Address netip.AddrPort
	Weight  uint32 // 0 takes no new flow
}

// Label is the backend's name, or its address where it has none.
func (b Backend) Label() string {
	if b.Name != "" {
		return b.Name
	}
	return b.Address.String()
}

// Service is a virtual address and how it is balanced.
type Service struct {
	Name      string
	Address   netip.AddrPort
	Protocols []Protocol // sorted, no duplicates
	Forward   Forward
	Scheduler Scheduler
	// TableSize is the length of the Maglev table, a prime; 0 means auto:
	// 100 x backends, rounded up to one of maglev.Sizes.
	TableSize uint32
	SNAT      SNAT
	Backends  []Backend
}

// Timeouts say how long a flow without packets lives, per state.
type Timeouts struct {
	TCPUnconfirmed time.Duration // no packet from the client after the backend's answer
	TCPEstablished time.Duration
	TCPHalfClosed  time.Duration // FIN from one side
	TCPClosed      time.Duration // FIN from both sides, or RST
	UDPUnconfirmed time.Duration // a single request and its answer
	UDPStream      time.Duration
}

// Limits size the kernel's maps. They are fixed while the data plane is loaded.
type Limits struct {
	Flows        uint32
	Services     uint32
	Backends     uint32
	TableEntries uint32 // all Maglev tables together
}

// Config is everything a config file says, validated and with defaults filled in.
type Config struct {
	Interfaces []string
	Mode       Mode
	Services   []Service
	Timeouts   Timeouts
	Limits     Limits
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

// NextHop is where packets toward an address leave, or why they cannot.
type NextHop struct {
	Interface int        // index of the interface they leave by
	MAC       MAC        // of the neighbour they go to
	SourceMAC MAC        // of the interface; zero: whatever the packet was sent to
	Source    netip.Addr // the host's own address toward it
	Problem   string     // why it is not usable; "" when it is
}

// Usable reports whether packets can be sent by this next hop.
func (n NextHop) Usable() bool { return n.Problem == "" }
