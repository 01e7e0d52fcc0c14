package main

import "fmt"

// goal is a limit for a figure, or for one figure over another.
type goal struct {
	part    string
	what    string
	figure  figure
	over    figure // the zero figure where the figure itself is judged
	atLeast bool   // higher is better; otherwise lower is
	limit   float64
	peers   string // for comparison, from another run
}

// value is what a run has for the goal, if it has all of it.
func (g goal) value(r results) (float64, bool) {
	v, ok := r.value(g.figure)
	if !ok || g.over == (figure{}) {
		return v, ok
	}
	over, ok := r.value(g.over)
	return v / over, ok && over != 0
}

func (g goal) met(value float64) bool {
	if g.atLeast {
		return value >= g.limit
	}
	return value <= g.limit
}

// unit is the figure's, or that of a ratio of two.
func (g goal) unit() string {
	if g.over == (figure{}) {
		return g.figure.unit
	}
	return "x"
}

// benches are the benchmarks that must run for the goal.
func (g goal) benches() []string {
	if g.over == (figure{}) {
		return []string{g.figure.bench}
	}
	return []string{g.figure.bench, g.over.bench}
}

// goals are all that tinylb promises of its speed.
func goals() []goal {
	var all []goal
	for _, part := range []struct {
		name  string
		goals []goal
	}{
		{"Packet path, IPv4", packetGoals()},
		{"IPv6 over IPv4", familyGoals()},
		{"Over veth", forwardGoals()},
		{"Control plane", controlGoals()},
		{"Flow table", tableGoals()},
	} {
		for _, g := range part.goals {
			g.part = part.name
			all = append(all, g)
		}
	}
	return all
}

const (
	timesEmpty = "x-empty"
	nsPerOp    = "ns/op"
	ms         = 1e6 // in ns
)

func packet(forward, family, what, flows string) figure {
	return figure{fmt.Sprintf("Packet/%s/%s/%s/flows=%s", forward, family, what, flows), timesEmpty}
}

func packetGoals() []goal {
	all := []goal{
		{what: "ipip, established, 1 flow", figure: packet("ipip", "v4", "established", "1"), limit: 4, peers: "Katran 8.5"},
		{what: "dsr, established, 1 flow", figure: packet("dsr", "v4", "established", "1"), limit: 3.5, peers: "xvs about 13"},
		{what: "nat, established, 1 flow", figure: packet("nat", "v4", "established", "1"), limit: 4.5},
		{what: "nat, reply, 1 flow", figure: packet("nat", "v4", "reply", "1"), limit: 5},
		{what: "gue, established, 1 flow", figure: packet("gue", "v4", "established", "1"), limit: 5, peers: "Katran 16"},
		{what: "ipip, established, 1M flows", figure: packet("ipip", "v4", "established", "1M"), limit: 11, peers: "Katran 23"},
		{what: "nat, established, 1M flows", figure: packet("nat", "v4", "established", "1M"), limit: 13},
		{what: "tracing off, instructions more per packet", figure: figure{"Packet/tracing-off", "instructions"}, limit: 3},
		{what: "not for a service", figure: figure{"Packet/not-ours", timesEmpty}, limit: 1.5, peers: "Katran 3.8"},
	}
	for _, forward := range forwards() {
		all = append(all, goal{
			what: forward + ", new flow, 1M distinct", figure: packet(forward, "v4", "syn-new", "1M"), limit: 25, peers: "Katran 40-46",
		})
	}
	return all
}

func forwards() []string { return []string{"nat", "dnat", "dsr", "ipip", "gue"} }

// casesOf are what is measured of a forward. Answers pass tinylb only where it translates.
func casesOf(forward string) []string {
	if forward == "nat" || forward == "dnat" {
		return []string{"established", "reply", "udp", "syn-new"}
	}
	return []string{"established", "udp", "syn-new"}
}

// familyGoals say how much IPv6 may cost above IPv4.
func familyGoals() []goal {
	var all []goal
	for _, flows := range []string{"1", "1M"} {
		limit := map[string]float64{"1": 1.15, "1M": 1.6}[flows]
		for _, forward := range forwards() {
			for _, what := range casesOf(forward) {
				if what == "syn-new" && flows == "1" { // of one flow, only the first packet is a new one
					continue
				}
				all = append(all, goal{
					what:   fmt.Sprintf("v6 over v4: %s, %s, flows=%s", forward, what, flows),
					figure: packet(forward, "v6", what, flows), over: packet(forward, "v4", what, flows), limit: limit,
				})
			}
		}
	}
	return all
}

func forwardGoals() []goal {
	const requests, connections, throughput = "Forward/tcp/requests/", "Forward/tcp/connections/", "Forward/tcp/throughput/"
	return []goal{
		{what: "packets per second, nat over bare redirect", figure: figure{"Forward/pps/nat", "x-redirect"}, atLeast: true, limit: 0.85},
		{what: "packets per second, nat over nftables", figure: figure{"Forward/pps/nat", "x-nftables"}, atLeast: true, limit: 3.5},
		{
			what: "TCP requests/s over direct", figure: figure{requests + "nat", "x-direct"}, atLeast: true, limit: 0.95,
			peers: "nginx stream 0.7",
		},
		{
			what: "TCP connections/s over direct", figure: figure{connections + "nat", "x-direct"}, atLeast: true, limit: 0.95,
			peers: "nginx stream 0.4",
		},
		{what: "TCP requests, p99 over direct", figure: figure{requests + "nat", "p99-x-direct"}, limit: 1.1},
		{what: "TCP connections/s over HAProxy", figure: figure{connections + "nat", "x-haproxy"}, atLeast: true, limit: 2},
		{what: "TCP connections/s over nginx stream", figure: figure{connections + "nat", "x-nginx-stream"}, atLeast: true, limit: 2},
		{
			what:   "TCP throughput over direct without TSO",
			figure: figure{throughput + "nat", "x-direct-no-tso"}, atLeast: true, limit: 0.85, peers: "bare redirect with checksum repair about 0.85",
		},
	}
}

func controlGoals() []goal {
	return []goal{
		{what: "cold start with 10k services x 10 backends", figure: figure{"Control/load-config", nsPerOp}, limit: 1000 * ms},
		{what: "one of 10k x 10 backends changed, to the last write", figure: figure{"Control/change-backend", nsPerOp}, limit: 2 * ms},
		{what: "one of 10k x 10 backends marked down, to the last write", figure: figure{"Control/backend-down", nsPerOp}, limit: 2 * ms},
		{
			what: "Maglev table, 65537 x 1,000 backends", figure: figure{"Control/maglev/backends=1000", nsPerOp}, limit: 2 * ms,
			peers: "the paper 1.8 ms",
		},
		{what: "one of 10k x 10 backends found down by its check, to the last write", figure: figure{"Control/backend-down-by-check", nsPerOp}, limit: 2 * ms},
		{what: "2,000 checks a second by TCP, of one processor", figure: figure{"Control/2000-checks/tcp", "percent"}, limit: 20},
		{what: "2,000 checks a second by HTTP, of one processor", figure: figure{"Control/2000-checks/http", "percent"}, limit: 20},
		{what: "daemon, 10k x 10", figure: figure{"Control/memory/services=10k", "rss-MB"}, limit: 60},
		{what: "kernel maps, 10k x 10, no flows", figure: figure{"Control/memory/services=10k", "map-MB"}, limit: 150, peers: "Katran 400 MB, fixed"},
	}
}

// tableGoals are of the flow table.
func tableGoals() []goal {
	return []goal{
		{what: "flow table, a v4 flow", figure: figure{"FlowTable/v4", "bytes/flow"}, limit: 64},
		{what: "flow table, a v6 flow", figure: figure{"FlowTable/v6", "bytes/flow"}, limit: 128},
		{what: "flow table at 80 % fill, live flows evicted", figure: figure{"FlowTable/fill=80", "evicted"}, limit: 0},
		{what: "flow table at 80 % fill, failed inserts", figure: figure{"FlowTable/fill=80", "failed"}, limit: 0},
	}
}
