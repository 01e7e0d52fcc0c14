package reconcile_test

import (
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

func TestKernelTmp(t *testing.T) {
	for _, hosts := range []int{1000, 100000} {
	l := benchLimits()
	l.Flows = 1024
	d, err := datapath.Open(datapath.Options{Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	cfg, hops := crowd(hosts)
	s := time.Now()
	r, err := reconcile.New(d, l)
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, r, cfg, hops)
	t.Log(hosts, "first", time.Since(s))
	s = time.Now()
	for range 20 {
		mustApply(t, r, cfg, hops)
	}
	t.Log("none", time.Since(s)/20)
	s = time.Now()
	for i := range 100 {
		cfg.Services[i].Backends[0].Weight = 2
		mustApply(t, r, cfg, hops)
	}
	t.Log("weight", time.Since(s)/100)
	s = time.Now()
	for i := range 20 {
		a := cfg.Services[i].Backends[0].Address.Addr()
		hops[a] = lb.NextHop{Problem: "x"}
		mustApply(t, r, cfg, hops)
	}
	t.Log("host lost", time.Since(s)/20)
	s = time.Now()
	r, err = reconcile.New(d, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("read back", time.Since(s))
	mustApply(t, r, cfg, hops)
	t.Log("restart", time.Since(s))
	s = time.Now()
	mustApply(t, r, lb.Config{}, hops)
	t.Log("all removed", time.Since(s))
	d.Close()
	}
}
