package lb

import "testing"

func some(services, backends int) []Service {
	all := make([]Service, services)
	for i := range all {
		all[i] = Service{TableSize: 1021, Backends: make([]Backend, backends)}
	}
	return all
}

func TestAutomaticLimits(t *testing.T) {
	for _, c := range []struct {
		services, backends int
		want               Limits
	}{
		{1, 1, Limits{Flows: 262144, Services: 4096, Backends: 65536, TableEntries: 4194304, Prefixes: 131072, Clients: 65536, Affinity: 65536}},
		{10_000, 10, Limits{Flows: 262144, Services: 11_250, Backends: 112_500, TableEntries: 11_521_152, Prefixes: 131072, Clients: 65536, Affinity: 65536}},
		{60_000, 1, Limits{Flows: 262144, Services: 65536, Backends: 67_500, TableEntries: 67108864, Prefixes: 131072, Clients: 65536, Affinity: 65536}},
	} {
		if got := AutomaticLimits(NeedsOf(some(c.services, c.backends))); got != c.want {
			t.Errorf("%d services with %d backends: %+v, want %+v", c.services, c.backends, got, c.want)
		}
	}
}

// A config that grows and shrinks runs with the maps that are there as long as it fits.
func TestRunsWith(t *testing.T) {
	with := func(services int, given Limits) Config {
		c := Config{Services: some(services, 1)}
		c.Limits = AutomaticLimits(NeedsOf(c.Services))
		if given.Services > 0 {
			c.Limits.Services = given.Services
		}
		c.Limits.Held = given.Held
		if given.Flows > 0 {
			c.Limits.Flows = given.Flows
		}
		return c
	}
	for _, c := range []struct {
		name   string
		config Config
		have   Limits
		want   bool
	}{
		{"as it is", with(1, Limits{}), with(1, Limits{}).Limits, true},
		{"fewer services", with(1, Limits{}), with(10_000, Limits{}).Limits, true},
		{"some more services", with(11_250, Limits{}), with(10_000, Limits{}).Limits, true},
		{"too many services", with(11_251, Limits{}), with(10_000, Limits{}).Limits, false},
		{"a limit that is given", with(1, Limits{Services: 10}), with(1, Limits{}).Limits, false},
		{"fewer held fragments", with(1, Limits{}), with(1, Limits{Held: 1}).Limits, true},
		{"more held fragments", with(1, Limits{Held: 1}), with(1, Limits{}).Limits, false},
		{"other flows", with(1, Limits{Flows: 1024}), with(1, Limits{}).Limits, false},
		{"flows that are not given any more", with(1, Limits{}), with(1, Limits{Flows: 1 << 20}).Limits, false},
	} {
		if got := c.config.RunsWith(c.have); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFlowSlots(t *testing.T) {
	for limit, want := range map[uint32]uint32{1: 1, 16: 16, 64: 64, 65: 96, 96: 96, 300: 320, 262144: 262144} {
		if got := FlowSlots(limit); got != want {
			t.Errorf("a limit of %d: %d slots, want %d", limit, got, want)
		}
	}
}
