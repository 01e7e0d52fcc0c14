package lb

// LeastLimits are the least that a config file may give.
func LeastLimits() Limits {
	return Limits{Flows: 16, Services: 1, Backends: 1, TableEntries: 64, Prefixes: 1, Clients: 16, Affinity: 16}
}

// MostLimits are the most that a config file may give.
func MostLimits() Limits {
	return Limits{
		Flows: 16777216, Services: 65536, Backends: 1048576, TableEntries: 67108864, Prefixes: 16777216, Clients: 16777216, Affinity: 16777216,
	}
}

// usualLimits are for every config that they are large enough for.
func usualLimits() Limits {
	return Limits{
		Flows: 262144, Services: 4096, Backends: 65536, TableEntries: 4194304, Prefixes: 131072, Clients: 65536, Affinity: 65536,
	}
}

// FlowBucket is how many slots of the flow table lie together. A flow may lie in
// either of two buckets.
const FlowBucket = 32

// FlowSlots is for how many flows there is room if the limit is so many: in a table of
// more than two buckets, each is whole.
func FlowSlots(limit uint32) uint32 {
	if limit <= 2*FlowBucket {
		return limit
	}
	return (limit + FlowBucket - 1) / FlowBucket * FlowBucket
}

// ClientWays is how many places an entry of a table of clients may lie in.
const ClientWays = 4

// ClientBuckets is how many buckets of so many places there are if the limit is so many clients.
func ClientBuckets(limit uint32) uint32 { return max(1, (limit+ClientWays-1)/ClientWays) }

// Needs are the limits that services need at least, but for flows; in uint64, because
// 65536 tables of 65537 entries do not fit into less.
type Needs struct {
	Services, Backends, TableEntries, Prefixes uint64
}

// NeedsOf counts. A table that changes is written beside the old one, so there is room
// for the largest twice.
func NeedsOf(services []Service) Needs {
	needs := Needs{Services: uint64(len(services))}
	largest := uint64(0)
	for i := range services {
		needs.Backends += uint64(len(services[i].Backends))
		room := (uint64(services[i].TableSize) + TableChunk - 1) / TableChunk * TableChunk
		needs.TableEntries += room
		needs.Prefixes += uint64(len(services[i].Allow) + len(services[i].Deny))
		largest = max(largest, room)
	}
	needs.TableEntries += largest
	return needs
}

// AutomaticLimits leave an eighth more than what is needed, so that a config can grow
// while the data plane is loaded.
func AutomaticLimits(needs Needs) Limits {
	most, usual := MostLimits(), usualLimits()
	roomFor := func(need uint64, usual, most uint32) uint32 {
		return uint32(min(max(need+need/8, uint64(usual)), uint64(most)))
	}
	return Limits{
		Flows:        usual.Flows,
		Services:     roomFor(needs.Services, usual.Services, most.Services),
		Backends:     roomFor(needs.Backends, usual.Backends, most.Backends),
		TableEntries: roomFor(needs.TableEntries, usual.TableEntries, most.TableEntries),
		Prefixes:     roomFor(needs.Prefixes, usual.Prefixes, most.Prefixes),
		Clients:      usual.Clients,
		Affinity:     usual.Affinity,
	}
}

// RunsWith reports whether a data plane with these limits does for the config: more held
// fragments do, and limits that are automatic need not be what they would be made anew, as long as the config fits.
func (c Config) RunsWith(have Limits) bool {
	needs := NeedsOf(c.Services)
	automatic := AutomaticLimits(needs)
	does := func(have, wanted, automatic uint32, need uint64) bool {
		return have == wanted || wanted == automatic && uint64(have) >= need
	}
	return have.Held >= c.Limits.Held && FlowSlots(have.Flows) == FlowSlots(c.Limits.Flows) &&
		ClientBuckets(have.Clients) == ClientBuckets(c.Limits.Clients) &&
		ClientBuckets(have.Affinity) == ClientBuckets(c.Limits.Affinity) &&
		does(have.Prefixes, c.Limits.Prefixes, automatic.Prefixes, needs.Prefixes) &&
		does(have.Services, c.Limits.Services, automatic.Services, needs.Services) &&
		does(have.Backends, c.Limits.Backends, automatic.Backends, needs.Backends) &&
		does(have.TableEntries, c.Limits.TableEntries, automatic.TableEntries, needs.TableEntries)
}
