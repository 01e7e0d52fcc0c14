package reconcile_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	benchServices = 10_000
	benchBackends = 10 // of each service
)

func benchLimits() lb.Limits {
	return lb.Limits{Services: benchServices, Backends: 131_072, TableEntries: 16 << 20}
}

// crowd has 100,000 backends on so many hosts, and the next hops of all.
func crowd(hosts int) (lb.Config, map[netip.Addr]lb.NextHop) {
	cfg, hops := lb.Config{}, map[netip.Addr]lb.NextHop{}
	for i := range benchServices {
		s := service(0, 0)
		s.Name, s.TableSize = fmt.Sprint("service-", i), 1021
		s.Address = lb.VIPAt(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), 80))
		for j := range benchBackends {
			n := i*benchBackends + j
			host := n % hosts
			address := netip.AddrFrom4([4]byte{10, byte(1 + host/62500), byte(host / 250 % 250), byte(host % 250)})
			s.Backends = append(s.Backends, lb.Backend{Address: netip.AddrPortFrom(address, uint16(8000+n/hosts)), Weight: 1})
			hops[address] = hopTo(address, 1)
		}
		cfg.Services = append(cfg.Services, s)
	}
	return cfg, hops
}

func BenchmarkApply(b *testing.B) {
	for _, hosts := range []int{1000, benchServices * benchBackends} {
		cfg, hops := crowd(hosts)
		b.Run(fmt.Sprint("first/hosts=", hosts), func(b *testing.B) {
			for b.Loop() {
				m := newMemory(b, benchLimits())
				m.unchecked = true
				mustApply(b, m.start(), cfg, hops)
			}
		})
		for name, change := range map[string]func(n int){
			"no change": func(int) {},
			"one weight": func(n int) {
				cfg.Services[n%benchServices].Backends[0].Weight = uint32(1 + n/benchServices%2*2 + n%2)
			},
			"one backend added or removed": func(n int) {
				s := &cfg.Services[n/2%benchServices]
				if n%2 == 0 {
					s.Backends = append(s.Backends, lb.Backend{Address: backendAt(1, 80), Weight: 1})
				} else {
					s.Backends = s.Backends[:len(s.Backends)-1]
				}
			},
			"one host lost or back, followed": nil,
			"one host lost or back": func(n int) {
				address := cfg.Services[n/2%benchServices].Backends[0].Address.Addr()
				hops[address] = hopTo(address, 1)
				if n%2 == 0 {
					hops[address] = lb.NextHop{Problem: "no answer"}
				}
			},
		} {
			b.Run(name+fmt.Sprint("/hosts=", hosts), func(b *testing.B) {
				cfg, hops = crowd(hosts)
				hops[backendAt(1, 80).Addr()] = hopTo(backendAt(1, 80).Addr(), 1)
				m := newMemory(b, benchLimits())
				m.unchecked = true
				r := m.start()
				mustApply(b, r, cfg, hops)
				m.writes()
				n := 0
				for b.Loop() {
					if change == nil {
						address := cfg.Services[n/2%benchServices].Backends[0].Address.Addr()
						hop := hopTo(address, 1)
						if n%2 == 0 {
							hop = lb.NextHop{Problem: "no answer"}
						}
						if _, err := r.Follow(map[netip.Addr]lb.NextHop{address: hop}); err != nil {
							b.Fatal(err)
						}
					} else {
						change(n)
						given := hops
						if name == "one weight" {
							given = nil
						}
						mustApply(b, r, cfg, given)
					}
					n++
				}
				b.ReportMetric(float64(len(m.log))/float64(n), "writes/op")
			})
		}
	}
}
