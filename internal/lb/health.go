package lb

import (
	"net/netip"
	"time"
)

// CheckType is what a backend is asked, to find out whether it works.
type CheckType string

const (
	CheckTCP   CheckType = "tcp"   // to accept a connection
	CheckHTTP  CheckType = "http"  // for an answer to a GET
	CheckHTTPS CheckType = "https" // for the same over TLS
	CheckGRPC  CheckType = "grpc"  // for its grpc.health.v1.Health service
	CheckUDP   CheckType = "udp"   // for an answer to a datagram
)

// Check says how the backends of a service are checked. It is comparable.
type Check struct {
	Type         CheckType
	Port         uint16 // 0: that of the packets to the backend
	Interval     time.Duration
	FastInterval time.Duration // instead, while the state is about to change
	Timeout      time.Duration // of all of a check
	Jitter       uint32        // percent of an interval, by which it is longer or shorter
	Rise         uint32        // good checks in a row make a backend up
	Fall         uint32        // failed ones make it down

	Host    string // of http, https and grpc; "": the address
	Path    string // of http and https
	Status  StatusCodes
	Body    string // a regular expression that the body matches; "": it is not read
	TLS     TLS    // of https and grpc
	Service string // of grpc; "": the server as a whole
	Send    string // of udp
	Expect  string // what the answer to Send contains
}

// TLS is how a check speaks it.
type TLS struct {
	On         bool
	ServerName string // sent, and looked for in the certificate; "": the check's host, or the address
	Roots      string // PEM certificates to trust; "": the host's
	SkipVerify bool
}

// StatusCodes is a set of HTTP status codes, 100 to 599.
type StatusCodes [(lastStatus-firstStatus)/64 + 1]uint64

const firstStatus, lastStatus = 100, 599

// Add adds the codes from first to last.
func (s *StatusCodes) Add(first, last uint32) {
	for code := max(first, firstStatus); code <= min(last, lastStatus); code++ {
		s[(code-firstStatus)/64] |= 1 << ((code - firstStatus) % 64)
	}
}

// Has reports whether a code is in the set.
func (s *StatusCodes) Has(code int) bool {
	return firstStatus <= code && code <= lastStatus && s[(code-firstStatus)/64]>>((code-firstStatus)%64)&1 != 0
}

// SameCheck compares two checks, either of which may be none.
func SameCheck(a, b *Check) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// CheckAddress is where a backend of the service is checked. Its port is 0 if neither
// the check nor the backend has one, and the VIP has several.
func (s *Service) CheckAddress(b Backend) netip.AddrPort {
	port := b.Address.Port()
	switch {
	case s.Check.Port != 0:
		port = s.Check.Port
	case port == 0 && s.Address.IsOnePort():
		port = s.Address.Ports.First
	}
	return netip.AddrPortFrom(b.Address.Addr(), port)
}

// CheckedBackend is a backend by what the config calls it.
type CheckedBackend struct {
	Service string
	Address netip.AddrPort
}

// HealthState is what is known of a backend's health.
type HealthState string

const (
	HealthUnknown HealthState = "unknown" // not checked yet; taken to be up
	HealthNew     HealthState = "new"     // not checked yet; takes no new flow until it is up
	HealthUp      HealthState = "up"
	HealthDown    HealthState = "down"
)

// MostTransitions is how many of a backend are remembered.
const MostTransitions = 10

// Health is what checks have found out about a backend. It does not change once others
// have it.
type Health struct {
	State       HealthState
	Error       string    // of the last check that failed
	ErrorAt     time.Time // when checks began to fail that way
	Transitions []Transition
}

// Transition is a change of state.
type Transition struct {
	At    time.Time
	State HealthState
	Cause string // the error, if it went down
}

// Usable reports whether a backend may take new flows; h may be nil, which is one
// without a check.
func (h *Health) Usable() bool {
	return h == nil || h.State == HealthUp || h.State == HealthUnknown
}

// Last is the last transition; zero: there was none.
func (h *Health) Last() Transition {
	if len(h.Transitions) == 0 {
		return Transition{}
	}
	return h.Transitions[len(h.Transitions)-1]
}
