package imports

// Inward are the rules for what a package of ours may know of the others.
func Inward() []MayImport {
	return []MayImport{
		{
			Package: "internal/lb",
			Reason:  "lb is the vocabulary that all share; whatever it imported, all would",
		},
		{
			Package: "internal/packet",
			Ours:    []string{"internal/lb"},
			Reason:  "packets are read the same way in the model, in tests and in simulate, whatever balances them",
		},
		{
			Package: "internal/config",
			Ours:    []string{"internal/lb", "internal/maglev"},
			Reason:  "config turns bytes into a validated lb.Config; it must judge a file without a kernel (maglev says which table sizes there are)",
		},
		{
			Package: "internal/maglev",
			Ours:    []string{"internal/lb"},
			Reason:  "the table builder is a pure function",
		},
		{
			Package: "internal/health",
			Ours:    []string{"internal/lb"},
			Reason:  "probes report through lb's types; the daemon joins them with the rest",
		},
		{
			Package: "internal/nexthop",
			Ours:    []string{"internal/lb"},
			Reason:  "next hops are reported through lb's types; the daemon joins them with the rest",
		},
		{
			Package: "internal/announce",
			Ours:    []string{"internal/lb"},
			Reason:  "announcing takes lb's types; the daemon says when",
		},
		{
			Package: "internal/datapath",
			Ours:    []string{"internal/lb"},
			Reason:  "the data plane's loader writes what it is told and decides nothing",
		},
		{
			Package: "internal/model",
			Ours:    []string{"internal/lb", "internal/maglev", "internal/packet"},
			Reason:  "the model is written from the RFCs: what it shared with the data plane, a comparison of the two could not find wrong",
		},
		{
			Package: "internal/reconcile",
			Ours:    []string{"internal/lb", "internal/maglev"},
			Reason:  "reconcile declares the tables it writes to as an interface, so that it is tested without a kernel",
		},
	}
}

// Outward are the rules for who may import a package or a dependency.
func Outward() []ImportedBy {
	return []ImportedBy{
		{
			Dependency: "github.com/cilium/ebpf",
			Importers:  []string{"internal/datapath"},
			Reason:     "one package talks BPF to the kernel, so that pins, links and map layouts are known in one place",
		},
		{
			Dependency: "github.com/osrg/gobgp",
			Importers:  []string{"internal/announce"},
			Reason:     "one package speaks BGP, so that the library can be replaced",
		},
		{
			Dependency: "github.com/vishvananda/netlink",
			Importers:  []string{"internal/nexthop", "internal/lab", "internal/datapath"},
			Reason: "the product reads routes and neighbours in nexthop and builds networks in lab; nothing else changes the host's network, " +
				"but for the filter that datapath attaches a program by before Linux 6.6",
		},
		{
			Dependency: "github.com/vishvananda/netns",
			Importers:  []string{"internal/nexthop", "internal/lab"},
			Reason:     "the product reads routes and neighbours in nexthop and builds networks in lab; nothing else changes namespaces",
		},
		{
			Dependency: "github.com/spf13/cobra",
			Importers:  []string{"cmd/tinylb"},
			Reason:     "the command line is one layer; what a command does is a function that a test can call",
		},
		{
			Dependency: "golang.org/x/perf",
			Reason:     "figures are read and judged beside the benchmarks; the product measures nothing",
		},
		{
			Dependency: "internal/lab",
			Importers:  []string{"internal/demo"},
			Reason:     "only the demo builds networks; the balancer takes the host's as it finds it",
		},
		{
			Dependency: "internal/reconcile",
			Importers:  []string{"internal/daemon", "internal/simulate"},
			Reason:     "one goroutine, the daemon's, writes configuration maps (simulate has maps of its own)",
		},
		{
			Dependency: "internal/daemon",
			Importers:  []string{"cmd/tinylb"},
			Reason:     "the daemon wires the parts together; a part that knew it would close a circle",
		},
		{
			Dependency: "internal/model",
			Reason:     "the model is there for tests; the product runs the real programs",
		},
	}
}
