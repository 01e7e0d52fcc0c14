package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
)

// ReasonOf is what packets are counted by; service "" is none.
type ReasonOf struct {
	Service string
	Reason  Reason
}

// BackendOf is a backend of a service, by name and label.
type BackendOf struct {
	Service, Backend string
}

// Counters are those of the services and backends in the config.
type Counters struct {
	Reasons  map[ReasonOf]uint64 // zeros are left out
	Backends map[BackendOf]lb.BackendCounters

	Incomplete uint64 // datagrams of which fragments never came
}

func (m *Model) count(d decision, size uint64) {
	if d.service == nil {
		m.passed[d.reason]++
	} else {
		d.service.reasons[d.reason]++
	}
	isError := d.reason == ICMPError && d.verdict.sends()
	if !d.reason.forwards() && !isError {
		return
	}
	c := &d.backend.counters
	for _, size := range d.carried {
		if d.reason == Reply {
			c.PacketsOut, c.BytesOut = c.PacketsOut+1, c.BytesOut+size
		} else {
			c.PacketsIn, c.BytesIn = c.PacketsIn+1, c.BytesIn+size
		}
	}
	switch {
	case d.reason == Reply, isError && d.toClient:
		c.PacketsOut++
		c.BytesOut += size
		return
	case d.reason == NewFlow, d.reason == NewFlowSNAT:
		c.Flows++
	}
	c.PacketsIn++
	c.BytesIn += size
}

func (m *Model) counters() Counters {
	all := Counters{Reasons: map[ReasonOf]uint64{}, Backends: map[BackendOf]lb.BackendCounters{}}
	m.forgetDatagrams()
	all.Incomplete = m.incomplete
	for why, n := range m.passed {
		all.Reasons[ReasonOf{"", why}] = n
	}
	for _, s := range m.services {
		for why, n := range s.reasons {
			all.Reasons[ReasonOf{s.config.Name, why}] = n
		}
		for _, b := range s.backends {
			all.Backends[BackendOf{s.config.Name, b.config.Label()}] = b.counters
		}
	}
	return all
}

// CheckCounters compares the data plane's counters with what they must be.
func (m *Model) CheckCounters(got Counters) error {
	want := m.counters()
	wrong := append(
		differences("packets", want.Reasons, got.Reasons),
		differences("backend", want.Backends, got.Backends)...)
	if want.Incomplete != got.Incomplete {
		wrong = append(wrong, fmt.Sprintf("datagrams that were never completed: want %d, got %d", want.Incomplete, got.Incomplete))
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%s", strings.Join(wrong, "\n"))
}

func differences[K, V comparable](what string, want, got map[K]V) []string {
	var all []string
	keys := maps.Clone(want)
	maps.Copy(keys, got)
	for key := range keys {
		if want[key] != got[key] {
			all = append(all, fmt.Sprintf("%s counted for %+v: want %+v, got %+v", what, key, want[key], got[key]))
		}
	}
	return all
}
