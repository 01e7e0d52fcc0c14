/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage 1: from bytes to struct packet. Nothing is judged before the address
 * filter says that the packet may be ours; a flaw found later is only noted in
 * pkt->flaw, because it is a reason to drop only once a service is meant.
 */
#ifndef TINYLB_PARSE_H
#define TINYLB_PARSE_H

#include "config.h"
#include "maps.h"
#include "packet.h"

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET 0x1fff

/* Two bits of a multiplicative hash; filterBits in internal/datapath/convert.go sets the same ones. */
static __always_inline bool filter_has(const struct address_filter *filter, const struct addr *a)
{
	__u32 hash = (a->word[0] ^ a->word[1] * 3 ^ a->word[2] * 5 ^ a->word[3]) * 0x9e3779b1;
	__u32 first = hash >> 23, second = hash >> 14 & 511;

	return filter->bits[first >> 6] >> (first & 63) &
	       filter->bits[second >> 6] >> (second & 63) & 1;
}

static __always_inline bool sent_to_us(const struct ethhdr *eth)
{
	__u8 differs = 0, set = 0;

	for (int i = 0; i < 6; i++) {
		differs |= eth->h_dest[i] ^ interface_mac[i];
		set |= interface_mac[i];
	}
	return !differs || !set;
}

static __always_inline void parse_tcp(struct packet *pkt, void *end)
{
	struct tcphdr *tcp = pkt->l4;

	if ((void *)(tcp + 1) > end || pkt->l4_length < sizeof(*tcp)) {
		pkt->flaw = REASON_TRUNCATED;
		return;
	}
	pkt->tcp_flags = ((__u8 *)tcp)[13];
	if (tcp->doff * 4 < sizeof(*tcp))
		pkt->flaw = REASON_MALFORMED;
	else if (tcp->doff * 4 > pkt->l4_length)
		pkt->flaw = REASON_TRUNCATED;
}

static __always_inline void parse_udp(struct packet *pkt, void *end)
{
	struct udphdr *udp = pkt->l4;

	if ((void *)(udp + 1) > end || pkt->l4_length < sizeof(*udp)) {
		pkt->flaw = REASON_TRUNCATED;
		return;
	}
	if (bpf_ntohs(udp->len) < sizeof(*udp))
		pkt->flaw = REASON_MALFORMED;
	else if (bpf_ntohs(udp->len) > pkt->l4_length)
		pkt->flaw = REASON_TRUNCATED;
	else
		pkt->l4_length = bpf_ntohs(udp->len); /* IP may carry more behind it */
}

static __always_inline enum verdict parse_l4(struct packet *pkt, void *end)
{
	struct {
		__be16 source, dest;
	} *ports = pkt->l4;

	if ((void *)(ports + 1) > end || pkt->l4_length < sizeof(*ports))
		return leave(pkt, VERDICT_PASS, REASON_TRUNCATED);
	pkt->tuple.sport = ports->source;
	pkt->tuple.dport = ports->dest;
	if (pkt->flaw)
		return VERDICT_CONTINUE;
	if (pkt->tuple.protocol == IPPROTO_TCP)
		parse_tcp(pkt, end);
	else
		parse_udp(pkt, end);
	return VERDICT_CONTINUE;
}

static __always_inline enum verdict parse_ipv4(struct packet *pkt, void *end)
{
	struct iphdr *ip = pkt->ip;
	__u32 header, total, available;
	__u16 fragment;

	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	available = pkt->length - sizeof(struct ethhdr);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	if (pkt->tuple.protocol != IPPROTO_TCP && pkt->tuple.protocol != IPPROTO_UDP)
		return leave(pkt, VERDICT_PASS, REASON_OTHER_PROTOCOL);
	if (available < header)
		return leave(pkt, VERDICT_PASS, REASON_TRUNCATED);
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET))
		pkt->flaw = REASON_FRAGMENT;
	if (total > available) {
		pkt->flaw = REASON_TRUNCATED;
		total = available;
	}
	if (fragment & IPV4_OFFSET) /* no ports in it: the kernel's reassembly may want it */
		return leave(pkt, VERDICT_PASS, pkt->flaw);

	pkt->l4 = (void *)ip + header;
	pkt->l4_offset = sizeof(struct ethhdr) + header;
	pkt->l4_length = total - header;
	return parse_l4(pkt, end);
}

static __always_inline enum verdict parse(struct xdp_md *ctx, struct packet *pkt)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct address_filter *filter;
	__u32 zero = 0;

	pkt->eth = data;
	if ((void *)(pkt->eth + 1) > end || pkt->eth->h_proto != bpf_htons(ETH_P_IP))
		return leave(pkt, VERDICT_PASS, REASON_NOT_IP);
	pkt->ip = (void *)(pkt->eth + 1);
	if ((void *)(pkt->ip + 1) > end)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);

	pkt->tuple.src = addr_from_v4(pkt->ip->saddr);
	pkt->tuple.dst = addr_from_v4(pkt->ip->daddr);
	pkt->tuple.protocol = pkt->ip->protocol;
	filter = bpf_map_lookup_elem(&address_filters, &zero);
	if (!filter || !filter_has(filter, &pkt->tuple.dst))
		return leave(pkt, VERDICT_PASS, REASON_NOT_OURS);
	if (!sent_to_us(pkt->eth))
		return leave(pkt, VERDICT_PASS, REASON_OTHER_MAC);
	pkt->length = bpf_xdp_get_buff_len(ctx);
	return parse_ipv4(pkt, end);
}

#endif
