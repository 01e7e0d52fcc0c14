package diff

import "slices"

// Mutant is a bug of one line in bpf/.
type Mutant struct {
	Name     string
	File     string // in bpf/
	Old, New string // Old occurs once
}

// Mutants lists bugs such as are made: forgotten, mixed up, off by one. The
// differential test finds each.
func Mutants() []Mutant {
	return slices.Concat(parserMutants(), flowMutants(), natMutants(), tunnelMutants(), answerMutants())
}

func parserMutants() []Mutant {
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
		{"packets with three VLAN tags are forwarded", "parse.h",
			"if (i >= VLAN_TAGS)", "if (i > VLAN_TAGS)"},
		{"a fifth VLAN tag is read", "parse.h",
			"#define VLAN_TAGS_READ 4", "#define VLAN_TAGS_READ 5"},
		{"an IPv4-mapped address in IPv6 is taken for IPv4", "parse.h",
			"if (addr_is_v4(&pkt->tuple.src) || addr_is_v4(&pkt->tuple.dst))", "if (addr_is_v4(&pkt->tuple.src))"},
		{"a hop-by-hop header may stand anywhere", "parse.h",
			"pkt->tuple.protocol == IPPROTO_HOPOPTS && n)", "pkt->tuple.protocol == 255 && n)"},
		{"an extension header is 8 bytes too short", "parse.h",
			"length += header->length * 8;", "length = header->length * 8;"},
		{"packets with seven extension headers are forwarded", "parse.h",
			"if (n >= IPV6_EXTENSIONS)", "if (n > IPV6_EXTENSIONS)"},
		{"a packet on its way to somebody else is taken", "parse.h",
			"pkt->tuple.protocol == IPPROTO_ROUTING && header->segments_left)", "pkt->tuple.protocol == 255 && header->segments_left)"},
		{"ICMPv6 is any protocol", "parse.h",
			"(pkt->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)", "IPPROTO_ICMP"},
		{"answers in dnat are looked for among the VIPs", "parse.h",
			"&pkt->tuple.src, FILTER_SOURCE)", "&pkt->tuple.src, FILTER_DESTINATION)"},

		{"ranges of ports are forgotten", "service.h",
			"return service ? service : bpf_map_lookup_elem(&service_blocks, &block);", "return service;"},
		{"the last entry of the scheduler table is never used", "select.h",
			"% service->table_size;", "% (service->table_size - 1);"},
		{"the client's port does not matter for the backend", "select.h",
			"(__u64)t->sport << 16", "(__u64)t->dport << 16"},
		{"a packet sent on by another interface keeps this one's MAC", "next_hop.h",
			"mac_is_zero(to->source_mac))", "!mac_is_zero(to->source_mac))"},
		{"answers are counted as requests", "stats.h",
			"if (pkt->reason == REASON_REPLY) {", "if (pkt->reason == REASON_NEW_FLOW) {"},
		{"a flow of dnat that is source-NATed is not counted", "stats.h",
			"if (pkt->reason != REASON_FORWARDED)", "if (pkt->reason == REASON_NEW_FLOW)"},
	}
}

func flowMutants() []Mutant {
	return []Mutant{
		{"a flow goes on to whoever got its backend's id", "flow.h",
			"backend->generation == flow->backend_generation", "backend->generation >= flow->backend_generation"},
		{"a flow ends a nanosecond early", "flow.h",
			"> (__s64)settings->timeout[phase]", ">= (__s64)settings->timeout[phase]"},
		{"FIN from one side closes", "flow.h",
			"(flags & FLOW_FIN_CLIENT && flags & FLOW_FIN_BACKEND)", "(flags & FLOW_FIN_CLIENT || flags & FLOW_FIN_BACKEND)"},
		{"a repeated SYN confirms", "flow.h",
			"!(pkt->tcp_flags & TCP_SYN))\n\t\tflags |= FLOW_CONFIRMED", "pkt)\n\t\tflags |= FLOW_CONFIRMED"},
		{"a one-way flow waits for an answer", "flow.h",
			"(flags & FLOW_ANSWERED || !translates(flow->forward))", "(flags & FLOW_ANSWERED)"},
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
		{"a flow of dnat leaves its answers' tuple behind", "flow.h",
			"if (translates(flow->forward))\n\t\tbpf_map_delete_elem", "if (flow->forward == FORWARD_NAT)\n\t\tbpf_map_delete_elem"},

		{"a flow inherits the flags of the one before in its slot", "open.h",
			"flow->flags = flow_ends(pkt);", "flow->flags |= flow_ends(pkt);"},
		{"a FIN that opens a flow is forgotten", "open.h",
			"flow->flags = flow_ends(pkt);", "flow->flags = 0;"},
		{"clients near the backend are not source-NATed", "dnat.h",
			"(!*interface || (hop && *interface == hop->interface))", "(!*interface && hop)"},
		{"a client that is a backend is not source-NATed", "dnat.h",
			"(!*interface || (hop && *interface == hop->interface))", "(hop && *interface == hop->interface)"},
		{"a flow of dnat takes another one's answers", "dnat.h",
			"flow_state(flow) != FLOW_LIVE || !flow_is_dead(flow, now) ||", "flow_state(flow) != FLOW_LIVE ||"},

		{"dnat resets what it does not know", "lb.bpf.c",
			"if (pkt->forward == FORWARD_NAT && !opens_flow(pkt))", "if (translates(pkt->forward) && !opens_flow(pkt))"},
		{"a TTL of one goes on", "lb.bpf.c",
			"*ttl <= 1;", "*ttl < 1;"},
		{"the one-way modes are hops", "lb.bpf.c",
			"return translates(forward) && ttl &&", "return ttl &&"},
	}
}

func natMutants() []Mutant {
	return []Mutant{
		{"the last port of the pool is never used", "snat.h",
			".ports = backend->snat_port_last - backend->snat_port_first + 1,", ".ports = backend->snat_port_last - backend->snat_port_first,"},
		{"a service's own port is used as a source", "snat.h",
			"return !source->is_vip ||", "return true ||"},
		{"the ports of a range are not used as sources", "snat.h",
			"!service_on_port(&search->answer.dst", "!service_at(&search->answer.dst"},
		{"a backend without a port is sent to port 0", "snat.h",
			"return backend->port ? backend->port : pkt->tuple.dport;", "return backend->port;"},

		{"a TCP checksum of zero is taken for none", "nat.h",
			"if (udp && !csum && (pkt->is_v6", "if (!csum && (pkt->is_v6"},
		{"a UDP checksum that comes out as zero is sent as zero", "nat.h",
			"return udp && !csum ? 0xffff : csum;", "return csum;"},
		{"a datagram without checksum has none in IPv6 either", "nat.h",
			"if (udp && !csum && (pkt->is_v6 || addr_is_v4(dst)))", "if (udp && !csum)"},
		{"the hop limit of IPv6 stays", "nat.h",
			"ip->hop_limit--;", "ip->hop_limit = ip->hop_limit;"},
		{"the TTL is not in the header's checksum", "nat.h",
			"change += *ttl;", "change += (__u16)(*ttl + 1);"},

		{"the identification of a fragment header is lost", "translate.h",
			"header->id = pkt->has_fragment_header ? pkt->fragment_id :", "header->id = 0 ? pkt->fragment_id :"},
		{"larger packets may be fragmented", "translate.h",
			"#define FRAGMENTABLE_MAX 1260", "#define FRAGMENTABLE_MAX 1280"},
		{"the TTL stays when the IP version changes", "translate.h",
			"header->ttl--;", "header->ttl += 0;"},
		{"a source route with one address left is over", "translate.h",
			"length[1] <= size)", "length[1] < size)"},
		{"a strict source route does not matter", "translate.h",
			"(*kind == OPTION_LSRR || *kind == OPTION_SSRR)", "(*kind == OPTION_LSRR)"},
		{"the traffic class is read in the wrong place", "ip.h",
			"header->tos = bpf_ntohl(*(__be32 *)v6) >> 20;", "header->tos = bpf_ntohl(*(__be32 *)v6) >> 16;"},
	}
}

func tunnelMutants() []Mutant {
	return []Mutant{
		{"the longest packet is too long", "ip.h",
			"<= IP_LENGTH_MAX;", "< IP_LENGTH_MAX;"},
		{"the outer IPv4 header is not counted", "ip.h",
			"header->payload + (header->is_v6 ? 0 : sizeof(struct iphdr)) <=", "header->payload <="},
		{"what must not be fragmented has an identification", "ip.h",
			"return dont_fragment ? 0 : random_u32();", "return random_u32();"},
		{"the hash runs into the prefix of the outer source", "tunnel.h",
			"bpf_htonl(hash & ((1U << (free & 31)) - 1));", "bpf_htonl(hash);"},
		{"GUE's source ports are not spread over all", "tunnel.h",
			"#define GUE_PORTS_MASK 0x3fff", "#define GUE_PORTS_MASK 0x1fff"},
		{"the flow label lacks its upper bits", "tunnel.h",
			"#define FLOW_LABEL_MASK 0xfffff", "#define FLOW_LABEL_MASK 0xffff"},
		{"the outer TTL is the inner one", "tunnel.h",
			"outer.ttl = TTL_OF_OURS;", "outer.ttl += 0;"},
		{"Ethernet padding is encapsulated", "tunnel.h",
			".payload = pkt->ip_length + (is_gue", ".payload = pkt->length - pkt->l3_offset + (is_gue"},
		{"GUE over IPv6 has no checksum", "tunnel.h",
			"gue->udp.check = check ? check : 0xffff;", "gue->udp.check = check ? 0 : 0xffff;"},
		{"all that is inside is IPv4", "tunnel.h",
			"outer.protocol = pkt->is_v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;", "outer.protocol = IPPROTO_IPIP;"},
		{"a partial checksum stays one in a tunnel", "tunnel.h",
			"if (!l4_complete(ctx, pkt))", "if (!pkt)"},
		{"a partial checksum stays one in dsr", "lb.bpf.c",
			"return l4_complete(ctx, pkt);", "return true;"},
		{"what the kernel will complete is summed up wrongly", "l4.h",
			"*sum = ~*field;", "*sum = *field;"},
		{"what the kernel will complete is completed", "l4.h",
			"if (checksum_mode != CHECKSUM_COMPLETE || !l4_is_partial", "if (!l4_is_partial"},
	}
}

func answerMutants() []Mutant {
	return []Mutant{
		{"a RST is answered", "reset.h",
			"if (got->rst)", "if (got->res1 > 15)"},
		{"a FIN is not acknowledged", "reset.h",
			"got->syn + got->fin +", "got->syn +"},
		{"a RST begins where the segment did", "reset.h",
			"reset->seq = got->ack_seq;", "reset->seq = got->seq;"},
		{"a RST has a full checksum where the kernel will complete it", "reset.h",
			"partial ? pseudo :", "partial && ip->ttl == 1 ? pseudo :"},
		{"ICMP quotes four bytes less", "icmp.h",
			"#define ICMPV4_ERROR_MAX 576", "#define ICMPV4_ERROR_MAX 572"},
		{"ICMPv6 quotes as little as ICMP", "icmp.h",
			"(pkt->is_v6 ? ICMPV6_ERROR_MAX : ICMPV4_ERROR_MAX)", "ICMPV4_ERROR_MAX"},
		{"ICMPv6's pseudo header is ICMP's", "icmp.h",
			"sum += csum_pseudo(ip->src, ip->dst, IPPROTO_ICMPV6, ip->payload);", "sum += csum_pseudo(ip->src, ip->dst, IPPROTO_ICMP, ip->payload);"},
		{"the client tells the backend that time is over", "icmp.h",
			"return &flow->tuple[FROM_CLIENT].dst;", "return &flow->tuple[FROM_CLIENT].src;"},
		{"bursts of answers last twice as long", "answer.h",
			"#define ANSWER_BURST_NS 100000000ULL", "#define ANSWER_BURST_NS 200000000ULL"},
		{"answers not given are saved up", "answer.h",
			"clock->due[kind] = (due > now ? due : now) +", "clock->due[kind] = due +"},
		{"a rate of zero is no limit", "answer.h",
			"!settings || !settings->interval[kind])", "!settings)"},
		{"frames to many are answered", "answer.h",
			"return eth && !(eth->h_dest[0] & 1) &&", "return eth &&"},
		{"addresses that nobody has are told", "answer.h",
			"&& is_host(&pkt->tuple.src);", "&& (is_host(&pkt->tuple.src) || !pkt->is_v6);"},
	}
}
