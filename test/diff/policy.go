package diff

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// changePolicy changes one thing that a service asks of new flows, or how long its flows live; as
// often as not it asks nothing any more, so that most packets get somewhere.
func changePolicy(rng *rand.Rand, s *lb.Service) {
	asks := chance(rng, 2)
	switch rng.IntN(7) {
	case 0:
		if s.Allow, s.Deny = nil, nil; asks {
			s.Allow, s.Deny = randomSources(rng)
		}
	case 1:
		if s.MaxFlows = 0; asks {
			s.MaxFlows = uint32(1 + rng.IntN(10))
		}
	case 2:
		if s.NewFlowsPerSecond = 0; asks {
			s.NewFlowsPerSecond = pick[uint32](rng, 1, 3, 7, 20, 100, 1_000_000)
		}
	case 3:
		if s.PerClient = (lb.ClientRate{}); asks {
			s.PerClient = lb.ClientRate{
				NewFlowsPerSecond: pick[uint32](rng, 1, 2, 3, 20, 999_983), PrefixV4: pick[uint8](rng, 32, 32, 31, 24, 1), PrefixV6: pick[uint8](rng, 128, 127, 64, 60),
			}
		}
	case 4:
		if s.Timeouts = (lb.Timeouts{}); asks {
			s.Timeouts = randomTimeouts(rng)
		}
	case 5:
		for i := range s.Backends {
			if s.Backends[i].MaxFlows = 0; asks && !chance(rng, 4) {
				s.Backends[i].MaxFlows = uint32(1 + rng.IntN(4))
			}
		}
	case 6:
		if s.Affinity = (lb.Affinity{}); asks {
			s.Affinity = randomAffinity(rng)
			s.Backends[rng.IntN(len(s.Backends))].MaxFlows = uint32(rng.IntN(3))
		}
	}
}

func randomAffinity(rng *rand.Rand) lb.Affinity {
	return lb.Affinity{
		Timeout:  pick(rng, 3*time.Hour, time.Minute, 100*time.Millisecond),
		PrefixV4: pick[uint8](rng, 32, 31, 28, 8), PrefixV6: pick[uint8](rng, 128, 125, 64),
		Group: pick(rng, "", "g", "g", "h"),
	}
}

// randomSources are prefixes of the clients that there are, and of others.
func randomSources(rng *rand.Rand) (allow, deny []netip.Prefix) {
	given := map[netip.Prefix]bool{}
	for range 1 + rng.IntN(8) {
		f := pick(rng, families()...)
		address := f.address(198, 51, 100, rng.IntN(60))
		if chance(rng, 3) {
			address = f.address(10, 0, 0, rng.IntN(60))
		}
		free := pick(rng, 0, 1, 2, 3, 8, 32, 32)
		if f == ipv6 && free == 32 {
			free = pick(rng, 32, 64, 96, 128)
		}
		prefix := netip.PrefixFrom(address, address.BitLen()-free).Masked()
		switch {
		case given[prefix]:
		case chance(rng, 2):
			allow = append(allow, prefix)
		default:
			deny = append(deny, prefix)
		}
		given[prefix] = true
	}
	slices.SortFunc(allow, netip.Prefix.Compare)
	slices.SortFunc(deny, netip.Prefix.Compare)
	return allow, deny
}
