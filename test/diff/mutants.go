package diff

// Mutant is a bug of one line in bpf/.
type Mutant struct {
	Name     string
	File     string // in bpf/
	Old, New string // Old occurs once
}

// Mutants lists bugs such as are made: forgotten, mixed up, off by one. The
// differential test finds each.
func Mutants() []Mutant {
	return []Mutant{
		{"a lying total length of one byte is believed", "parse.h",
			"if (said > there) {", "if (said > there + 1) {"},
		{"Ethernet padding is taken for payload", "parse.h",
			"pkt->l4_length = said;", "pkt->l4_length = there;"},
		{"a TCP header without payload is too long", "parse.h",
			"tcp->doff * 4 > pkt->l4_length", "tcp->doff * 4 >= pkt->l4_length"},
		{"a UDP datagram without payload is malformed", "parse.h",
			"bpf_ntohs(udp->len) < sizeof(*udp)", "bpf_ntohs(udp->len) <= sizeof(*udp)"},
		{"only five bytes of the interface's MAC count", "parse.h",
			"for (int i = 0; i < 6; i++) {", "for (int i = 0; i < 5; i++) {"},

		{"a third VLAN tag is read", "parse.h",
			"for (int i = 0; i < 2; i++) {", "for (int i = 0; i < 3; i++) {"},
		{"an IPv4-mapped address in IPv6 is taken for IPv4", "parse.h",
			"if (addr_is_v4(&pkt->tuple.src) || addr_is_v4(&pkt->tuple.dst))", "if (addr_is_v4(&pkt->tuple.src))"},
		{"a hop-by-hop header may stand anywhere", "parse.h",
			"pkt->tuple.protocol == IPPROTO_HOPOPTS && !first", "pkt->tuple.protocol == 255 && !first"},
		{"an extension header is 8 bytes too short", "parse.h",
			"length += header->length * 8;", "length = header->length * 8;"},

		{"a flow goes on to whoever got its backend's id", "flow.h",
			"backend->generation == flow->backend_generation", "backend->generation >= flow->backend_generation"},
		{"a flow ends a nanosecond early", "flow.h",
			"> (__s64)settings->timeout[phase]", ">= (__s64)settings->timeout[phase]"},
		{"FIN from one side closes", "flow.h",
			"(flags & FLOW_FIN_CLIENT && flags & FLOW_FIN_BACKEND)", "(flags & FLOW_FIN_CLIENT || flags & FLOW_FIN_BACKEND)"},
		{"a repeated SYN confirms", "flow.h",
			"flags & FLOW_ANSWERED && !(pkt->tcp_flags & TCP_SYN)", "flags & FLOW_ANSWERED"},
		{"half-closed connections give way", "flow.h",
			"phase < PHASE_UDP_STREAM", "phase < PHASE_TCP_HALF_CLOSED"},
		{"the latest flow gives way instead of the longest idle", "flow.h",
			"(flow->last_seen - victim->last_seen) >= 0", "(flow->last_seen - victim->last_seen) <= 0"},
		{"a client's new MAC is noticed in the first five bytes only", "flow.h",
			"flow->client_mac, eth->h_source, 6))", "flow->client_mac, eth->h_source, 5))"},
		{"SYN and FIN together open a flow", "flow.h",
			"(TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)", "(TCP_SYN | TCP_ACK | TCP_RST)"},
		{"a SYN during the handshake begins anew", "flow.h",
			"(flow->phase == PHASE_TCP_CLOSED ||", "(flow->phase >= PHASE_TCP_UNCONFIRMED ||"},

		{"a flow inherits the flags of the one before in its slot", "nat.h",
			"flow->flags = 0;", "flow->flags |= 0;"},
		{"a TCP checksum of zero is taken for none", "nat.h",
			"if (pkt->tuple.protocol == IPPROTO_UDP && !csum)", "if (!csum)"},
		{"a UDP checksum that comes out as zero is sent as zero", "nat.h",
			"return pkt->tuple.protocol == IPPROTO_UDP && !csum ? 0xffff : csum;", "return csum;"},

		{"the last port of the pool is never used", "snat.h",
			".ports = backend->snat_port_last - backend->snat_port_first + 1,", ".ports = backend->snat_port_last - backend->snat_port_first,"},
		{"a service's own port is used as a source", "snat.h",
			"return !source->is_vip ||", "return true ||"},

		{"the last entry of the scheduler table is never used", "select.h",
			"% service->table_size;", "% (service->table_size - 1);"},
		{"the client's port does not matter for the backend", "select.h",
			"(__u64)t->sport << 16", "(__u64)t->dport << 16"},
		{"a packet sent on by another interface keeps this one's MAC", "next_hop.h",
			"mac_is_zero(to->source_mac))", "!mac_is_zero(to->source_mac))"},
		{"answers are counted as requests", "stats.h",
			"if (pkt->direction == FROM_BACKEND) {", "if (pkt->direction > FROM_BACKEND) {"},
	}
}
