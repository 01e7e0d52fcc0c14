package lb

import (
	"net/netip"
	"time"
)

// Status is what the data plane is set to do and what it has done.
type Status struct {
	Pin        string            `json:"pin"`
	DaemonPID  int               `json:"daemon_pid"` // 0: none runs; the data plane forwards without
	Interfaces []InterfaceStatus `json:"interfaces"`
	Services   []ServiceStatus   `json:"services"`
	Reasons    []ReasonStatus    `json:"reasons"`
	Fragments  FragmentCounts    `json:"fragments"`
}

// InterfaceStatus is one interface with a program attached.
type InterfaceStatus struct {
	Name    string   `json:"name"`
	Index   int      `json:"index"`
	Mode    Mode     `json:"mode"`
	Notices []string `json:"notices"` // what will not work as it is now, and what to do about it
}

// ServiceStatus is one service as the data plane has it.
type ServiceStatus struct {
	Name      string          `json:"name"`
	Address   VIP             `json:"address"`
	Protocols []string        `json:"protocols"`
	Forward   Forward         `json:"forward"`
	Scheduler Scheduler       `json:"scheduler"`
	TableSize uint32          `json:"table_size"` // 0: no usable backend
	Backends  []BackendStatus `json:"backends"`
}

// BackendStatus is one backend as the data plane has it.
type BackendStatus struct {
	Name     string          `json:"name"` // its address where the config gives none
	Address  netip.AddrPort  `json:"address"`
	Weight   uint32          `json:"weight"`
	Usable   bool            `json:"usable"` // has a next hop, and is not known to be down
	NextHop  *NextHopStatus  `json:"next_hop,omitempty"`
	Health   *HealthStatus   `json:"health,omitempty"` // nil: it is not checked
	Active   uint32          `json:"active_flows"`     // that are not closed
	Counters BackendCounters `json:"counters"`
}

// NextHopStatus is how a backend is reached.
type NextHopStatus struct {
	Interface string `json:"interface"`
	MAC       string `json:"mac"`
	VLAN      uint16 `json:"vlan,omitempty"` // 0: packets leave without a tag
}

// HealthStatus is what checks have found out about a backend.
type HealthStatus struct {
	State       HealthState        `json:"state"`
	Since       time.Time          `json:"since,omitzero"`
	LastError   string             `json:"last_error,omitempty"`
	LastErrorAt time.Time          `json:"last_error_at,omitzero"` // when checks began to fail that way
	Transitions []TransitionStatus `json:"transitions"`            // the last ones, the oldest first
}

// TransitionStatus is a change of a backend's health.
type TransitionStatus struct {
	At    time.Time   `json:"at"`
	State HealthState `json:"state"`
	Cause string      `json:"cause,omitempty"` // why it went down
}

// ReasonStatus counts the packets that ended for one reason.
type ReasonStatus struct {
	Reason  string `json:"reason"`
	Service string `json:"service"` // "" for packets of no service
	Packets uint64 `json:"packets"`
}

// FragmentCounts say what became of fragments that came out of order, or not at all.
type FragmentCounts struct {
	Held  uint32 `json:"held"`       // now, for their first fragment; those whose time is over until their room is needed
	Bytes uint64 `json:"held_bytes"` // of these frames
	// Incomplete counts datagrams of which a service got a part, or of which the first fragment never came.
	Incomplete uint64 `json:"incomplete"`
}
