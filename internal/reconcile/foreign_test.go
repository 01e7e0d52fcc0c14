package reconcile_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

func TestForeignVIPs(t *testing.T) {
	cfg := three()
	cfg.Answers.Echo = true
	m := newMemory(t, testLimits())
	r := m.start()
	first, second, third := vip(1, 0).Addr, vip(2, 0).Addr, vip(3, 0).Addr
	for _, step := range []struct {
		name   string
		change func()
		want   []netip.Addr
		writes string // of this table
	}{
		{"the host is not known", func() {}, nil, ""},
		{"one is the host's", func() { r.SetHost([]netip.Addr{second, netip.MustParseAddr("::1")}) }, []netip.Addr{first, third}, "PutForeignVIP PutForeignVIP"},
		{"the same in another order", func() { r.SetHost([]netip.Addr{netip.MustParseAddr("::1"), second, second}) }, []netip.Addr{first, third}, ""},
		{"another one is", func() { r.SetHost([]netip.Addr{third}) }, []netip.Addr{first, second}, "DeleteForeignVIP PutForeignVIP"},
		{"a restart that does not know yet", func() { r = m.start() }, []netip.Addr{first, second}, ""},
		{"none is", func() { r.SetHost(nil) }, []netip.Addr{first, second, third}, "PutForeignVIP"},
		{"a service moves", func() { cfg.Services[0].Address = vip(5, 80) }, []netip.Addr{vip(5, 0).Addr, second, third}, "PutForeignVIP DeleteForeignVIP"},
		{"a service goes", func() { cfg.Services = cfg.Services[1:] }, []netip.Addr{second, third}, "DeleteForeignVIP"},
		{"nothing is answered", func() { cfg.Answers.Echo = false }, nil, "DeleteForeignVIP DeleteForeignVIP"},
	} {
		step.change()
		m.writes()
		mustApply(t, r, cfg, hopsOf(cfg))
		var writes []string
		for _, what := range m.writes() {
			if strings.HasSuffix(what, "ForeignVIP") {
				writes = append(writes, what)
			}
		}
		if got := strings.Join(writes, " "); got != step.writes {
			t.Errorf("%s: wrote %q, want %q", step.name, got, step.writes)
		}
		expectForeign(t, step.name, m, step.want)
	}
}

func expectForeign(t *testing.T, when string, m *memory, want []netip.Addr) {
	t.Helper()
	all := map[netip.Addr]lb.VIPAnswers{}
	for _, a := range want {
		all[a] = lb.VIPAnswers{Echo: true}
	}
	if !maps.Equal(m.foreign, all) {
		t.Errorf("%s: foreign VIPs: %v, want %v", when, m.foreign, want)
	}
}

// The host's addresses change without any change of config or next hops.
func TestForeignVIPsAreFollowed(t *testing.T) {
	cfg := three()
	cfg.Answers.Echo = true
	m := newMemory(t, testLimits())
	luck := rand.New(rand.NewPCG(1, 1))
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	m.fail = func(int) bool { return luck.IntN(3) == 0 }
	for range 100 {
		var own, foreign []netip.Addr
		for n := 1; n <= 3; n++ {
			if luck.IntN(2) == 0 {
				own = append(own, vip(n, 0).Addr)
			} else {
				foreign = append(foreign, vip(n, 0).Addr)
			}
		}
		r.SetHost(own)
		follow(t, r, cfg)
		expectForeign(t, "followed", m, foreign)
	}
}

// follow tries until it succeeds, as the daemon does.
func follow(t *testing.T, r *reconcile.Reconciler, cfg lb.Config) {
	t.Helper()
	_, err := r.Follow(nil)
	for tries := 0; err != nil && tries < 100; tries++ {
		_, err = r.Apply(cfg, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}
