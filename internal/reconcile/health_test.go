package reconcile_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// checked is a config whose first service is checked.
func checked() lb.Config {
	cfg := three()
	cfg.Services[0].Check = &lb.Check{Type: lb.CheckTCP}
	return cfg
}

func keyOf(cfg lb.Config, backend int) lb.CheckedBackend {
	return lb.CheckedBackend{Service: cfg.Services[0].Name, Address: cfg.Services[0].Backends[backend].Address}
}

func down(cause string) *lb.Health {
	at := time.Unix(1, 0)
	return &lb.Health{
		State: lb.HealthDown, Error: cause, ErrorAt: at, Transitions: []lb.Transition{{At: at, State: lb.HealthDown, Cause: cause}},
	}
}

// A backend that is down loses its part of the table, and keeps what its flows need.
func TestDownBackendKeepsItsFlows(t *testing.T) {
	cfg := checked()
	m := newMemory(t, testLimits())
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	key := keyOf(cfg, 1)
	id := m.backendID(key.Service, key.Address)
	entry, hop := m.backends[id], m.hops[m.backends[id].NextHop]
	m.writes()

	r.LearnHealth(map[lb.CheckedBackend]*lb.Health{key: down("refused")})
	result, err := r.Follow(nil)
	if err != nil || len(result.Unusable) != 1 || result.Unusable[0].Problem != "check failed: refused" || !result.Unusable[0].IsDown {
		t.Errorf("got %+v, %v", result, err)
	}
	if log := m.writes(); !slices.Equal(log, []string{"PutBackend", "PutTable", "PutService", "PutBackendHealth"}) {
		t.Errorf("written: %v", log)
	}
	for key, service := range m.services {
		if slices.Contains(m.tables[service.TableOffset:service.TableOffset+service.TableSize], id) {
			t.Errorf("%v leads to it", key)
		}
	}
	entry.TakesFlows = false
	if m.backends[id] != entry || m.hops[entry.NextHop] != hop || !hop.Usable() {
		t.Errorf("backend %+v by %+v became %+v by %+v", entry, hop, m.backends[id], m.hops[entry.NextHop])
	}

	r.LearnHealth(map[lb.CheckedBackend]*lb.Health{key: {State: lb.HealthUp}})
	if result, err := r.Follow(nil); err != nil || len(result.Unusable) > 0 {
		t.Errorf("got %+v, %v", result, err)
	}
}

// What makes no difference to packets touches no table of theirs.
func TestHealthRecordAlone(t *testing.T) {
	cfg := checked()
	m := newMemory(t, testLimits())
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	m.writes()
	key := keyOf(cfg, 0)
	for _, health := range []*lb.Health{{State: lb.HealthUnknown}, {State: lb.HealthUp}, {State: lb.HealthUp, Error: "refused"}} {
		r.LearnHealth(map[lb.CheckedBackend]*lb.Health{key: health})
		if _, err := r.Follow(nil); err != nil {
			t.Fatal(err)
		}
		if log := m.writes(); !slices.Equal(log, []string{"PutBackendHealth"}) {
			t.Errorf("%+v: written: %v", health, log)
		}
		if m.health[m.backendID(key.Service, key.Address)] != health {
			t.Errorf("%+v is not in the table", health)
		}
	}
	if _, err := r.Follow(nil); err != nil || len(m.writes()) > 0 {
		t.Errorf("written once more: %v", err)
	}
}

func TestNewBackendWaitsForItsFirstCheck(t *testing.T) {
	cfg := checked()
	m := newMemory(t, testLimits())
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	added := lb.Backend{Address: netip.MustParseAddrPort("192.168.9.9:80"), Weight: 1}
	cfg.Services[0].Backends = append(cfg.Services[0].Backends, added)
	key := keyOf(cfg, 3)
	if _, known := r.Health(cfg.Services)[key]; known {
		t.Error("the tables know it")
	}
	r.LearnHealth(map[lb.CheckedBackend]*lb.Health{key: {State: lb.HealthNew}})
	if result := mustApply(t, r, cfg, hopsOf(cfg)); len(result.Unusable) != 1 || result.Unusable[0].Problem != "not checked yet" {
		t.Errorf("got %+v", result)
	}
}

// The verdicts of the daemon before hold until there are others, also for a service
// that has got another name.
func TestHealthIsReadBack(t *testing.T) {
	cfg := checked()
	m := newMemory(t, testLimits())
	r := m.start()
	key, health := keyOf(cfg, 1), down("refused")
	r.LearnHealth(map[lb.CheckedBackend]*lb.Health{key: health})
	mustApply(t, r, cfg, hopsOf(cfg))

	again := checked()
	again.Services[0].Name = "renamed"
	r = m.start()
	want := map[lb.CheckedBackend]*lb.Health{}
	for i := range again.Services[0].Backends {
		want[keyOf(again, i)] = &lb.Health{State: lb.HealthUnknown}
	}
	want[keyOf(again, 1)] = health
	got := r.Health(again.Services)
	if !maps.EqualFunc(got, want, func(a, b *lb.Health) bool { return a.State == b.State }) {
		t.Errorf("read back: %v", got)
	}
	if result := mustApply(t, r, again, nil); len(result.Unusable) != 1 || result.Unusable[0].Problem != "check failed: refused" {
		t.Errorf("got %+v", result)
	}

	again.Services[0].Check = nil
	if result := mustApply(t, r, again, nil); len(result.Unusable) > 0 || len(m.health) > 0 {
		t.Errorf("not checked any more: %+v, %v", result, m.health)
	}
}
