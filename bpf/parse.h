/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage 1: from bytes to struct packet. Nothing is judged before the address
 * filter says that the packet may be ours; a flaw found later is only noted in
 * pkt->flaw, because it is a reason to drop only once a service is meant.
 */
#ifndef TINYLB_PARSE_H
#define TINYLB_PARSE_H

#include "config.h"
#include "link.h"
#include "maps.h"
#include "packet.h"

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET 0x1fff

#define IP_LENGTH_MAX 65535
#define FRAGMENT_HEADER 8 /* bytes (RFC 8200, 4.5) */
#define PAYLOAD_OFFSET_MAX 1000 /* of fragments: what comes before is handled by itself */

/* Multipliers, so that an address is in the filter as one and not as the other. */
#define FILTER_DESTINATION 0x9e3779b1
#define FILTER_SOURCE 0x85ebca6b
#define FILTER_PORT 0xc2b2ae35

/* Two bits of a multiplicative hash; addAddresses in internal/datapath/filter.go sets the same ones. */
static __always_inline bool filter_has(const struct address_filter *filter, const struct addr *a,
				       __u32 multiplier)
{
	__u32 hash = addr_mix(a) * multiplier;
	__u32 first = hash >> 23, second = hash >> 14 & 511;

	return filter->bits[first >> 6] >> (first & 63) &
	       filter->bits[second >> 6] >> (second & 63) & 1;
}

/* portFilterBit in internal/datapath/filter.go sets the same bit. */
static __always_inline bool filter_has_port(const struct address_filter *filter,
					    const struct addr *a, __be16 port)
{
	__u32 hash = addr_mix(a) + port * FILTER_PORT;

	hash = hash * FILTER_DESTINATION >> (32 - PORT_FILTER_BITS);
	return filter->ports[hash >> 6] >> (hash & 63) & 1;
}

static __always_inline bool sent_to_us(const struct ethhdr *eth)
{
	const volatile __u32 *first = (const volatile __u32 *)interface_mac;
	const volatile __u16 *last = (const volatile __u16 *)(interface_mac + 4);
	__u32 differs = (*(__u32 *)eth->h_dest ^ *first) | (*(__u16 *)(eth->h_dest + 4) ^ *last);
	__u32 set = *first | *last;

	return !differs || !set;
}

/*
 * While parsing, l4_offset and l4_length say where it has come to and how much
 * of the IP packet is left; they start at the IP header.
 */
static __always_inline void parse_begin(struct packet *pkt, __u32 said)
{
	__u32 there = pkt->length - pkt->l3_offset;

	pkt->l4_offset = pkt->l3_offset;
	pkt->ip_length = said;
	pkt->l4_length = said;
	if (said > there) {
		pkt->l4_length = there;
		note(pkt, REASON_TRUNCATED);
	}
}

/* False: a header of that size is not there. */
static __always_inline bool parse_step(struct packet *pkt, __u32 size)
{
	if (pkt->l4_length < size)
		return false;
	pkt->l4_offset += size;
	pkt->l4_length -= size;
	return true;
}

/* Why packet_at() found nothing: the frame ends there, or its first buffer does. */
static __always_inline enum reason parse_unread(const struct packet *pkt, __u32 size)
{
	return pkt->l4_length < size ? REASON_TRUNCATED : REASON_MANY_HEADERS;
}

/* A fragment's payload begins where parsing has come to. VERDICT_LATER: there are no ports in it. */
static __always_inline enum verdict parse_fragment(struct packet *pkt, __u32 offset, bool more)
{
	__u32 header = pkt->l4_offset - pkt->l3_offset, length = pkt->ip_length - header;
	__u32 counted = header - (pkt->is_v6 ? sizeof(struct ipv6hdr) + FRAGMENT_HEADER : 0);

	if (!offset && !more)
		return VERDICT_CONTINUE;
	pkt->is_fragment = true;
	pkt->fragment_offset = offset;
	pkt->more_fragments = more;
	pkt->payload_offset = pkt->l4_offset;
	/* RFC 8200, 4.5 */
	if (!length || (more && length & 7) || counted + offset + length > IP_LENGTH_MAX)
		note(pkt, REASON_MALFORMED);
	/* it may overwrite the flags (RFC 1858, 3128) */
	if (offset == 8 && pkt->tuple.protocol == IPPROTO_TCP)
		note(pkt, REASON_FRAGMENT_TINY);
	if (pkt->payload_offset > PAYLOAD_OFFSET_MAX)
		note(pkt, REASON_MANY_HEADERS);
	return offset ? VERDICT_LATER : VERDICT_CONTINUE;
}

static __always_inline void parse_tcp(struct xdp_md *ctx, struct packet *pkt)
{
	struct tcphdr *tcp = packet_at(ctx, pkt->l4_offset, sizeof(*tcp));

	enum reason cut = pkt->is_fragment ? REASON_FRAGMENT_TINY : REASON_TRUNCATED;

	if (!tcp || pkt->l4_length < sizeof(*tcp)) {
		note(pkt, pkt->l4_length < sizeof(*tcp) ? cut : REASON_MANY_HEADERS);
		return;
	}
	pkt->tcp_flags = ((__u8 *)tcp)[13];
	if (tcp->doff * 4 < sizeof(*tcp))
		pkt->flaw = REASON_MALFORMED;
	else if (tcp->doff * 4 > pkt->l4_length)
		pkt->flaw = cut;
}

static __always_inline void parse_udp(struct xdp_md *ctx, struct packet *pkt)
{
	struct udphdr *udp = packet_at(ctx, pkt->l4_offset, sizeof(*udp));

	if (!udp || pkt->l4_length < sizeof(*udp)) {
		note(pkt, parse_unread(pkt, sizeof(*udp)));
		return;
	}
	if (bpf_ntohs(udp->len) < sizeof(*udp))
		pkt->flaw = REASON_MALFORMED;
	else if (pkt->is_fragment)
		return; /* it tells of the whole datagram */
	else if (bpf_ntohs(udp->len) > pkt->l4_length)
		pkt->flaw = REASON_TRUNCATED;
	else
		pkt->l4_length = bpf_ntohs(udp->len); /* IP may carry more behind it */
}

static __always_inline enum verdict parse_l4(struct xdp_md *ctx, struct packet *pkt)
{
	struct {
		__be16 source, dest;
	} *ports = packet_at(ctx, pkt->l4_offset, sizeof(*ports));

	if (!ports || pkt->l4_length < sizeof(*ports))
		return leave(pkt, VERDICT_PASS, parse_unread(pkt, sizeof(*ports)));
	pkt->tuple.sport = ports->source;
	pkt->tuple.dport = ports->dest;
	if (pkt->flaw)
		return VERDICT_CONTINUE;
	if (pkt->tuple.protocol == IPPROTO_TCP)
		parse_tcp(ctx, pkt);
	else
		parse_udp(ctx, pkt);
	return VERDICT_CONTINUE;
}

static __always_inline __u8 icmp_of(bool is_v6)
{
	return is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
}

static __always_inline enum verdict parse_protocol(struct packet *pkt)
{
	if (pkt->tuple.protocol != IPPROTO_TCP && pkt->tuple.protocol != IPPROTO_UDP &&
	    pkt->tuple.protocol != icmp_of(pkt->is_v6))
		return leave(pkt, VERDICT_PASS, REASON_OTHER_PROTOCOL);
	return VERDICT_CONTINUE;
}

static __always_inline enum verdict parse_ipv4(struct xdp_md *ctx, struct packet *pkt)
{
	struct iphdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));
	__u32 header, total;
	__u16 fragment;

	if (!ip)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	pkt->tuple.protocol = ip->protocol;
	parse_begin(pkt, total);
	if (parse_protocol(pkt) != VERDICT_CONTINUE)
		return VERDICT_PASS;
	fragment = bpf_ntohs(ip->frag_off);
	pkt->fragment_id = bpf_ntohs(ip->id);
	if (!parse_step(pkt, header))
		return leave(pkt, VERDICT_PASS, REASON_TRUNCATED);
	return parse_fragment(pkt, (fragment & IPV4_OFFSET) * 8, fragment & IPV4_MORE_FRAGMENTS);
}

/* Extension headers that may stand before the ports (RFC 8200, 4.1), and that are read to find them. */
#define IPV6_EXTENSIONS 6
#define IPV6_EXTENSIONS_READ 32
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 1

struct ipv6_extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, without the first */
	union {
		__be16 fragment; /* of a fragment header: offset and flags */
		struct {
			__u8 type;
			__u8 segments_left; /* of a routing header */
		};
	};
	__be32 id; /* of a fragment header */
};

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_FRAGMENT;
}

static __always_inline enum verdict parse_fragment_header(struct packet *pkt,
							  const struct ipv6_extension *header)
{
	__u16 fragment = bpf_ntohs(header->fragment);

	if (pkt->is_fragment) /* and so is what it is a fragment of */
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	pkt->has_fragment_header = true;
	pkt->fragment_header = pkt->l4_offset;
	pkt->fragment_id = bpf_ntohl(header->id);
	pkt->tuple.protocol = header->next;
	parse_step(pkt, FRAGMENT_HEADER);
	if (fragment & IPV6_FRAGMENT_OFFSET && !is_extension(header->next) &&
	    parse_protocol(pkt) != VERDICT_CONTINUE)
		return VERDICT_PASS;
	return parse_fragment(pkt, fragment & IPV6_FRAGMENT_OFFSET, fragment & IPV6_MORE_FRAGMENTS);
}

static __always_inline enum verdict parse_extension(struct xdp_md *ctx, struct packet *pkt, __u32 n)
{
	struct ipv6_extension *header = packet_at(ctx, pkt->l4_offset, sizeof(*header));
	__u32 length = sizeof(*header);

	if (!header || pkt->l4_length < length)
		return leave(pkt, VERDICT_PASS, parse_unread(pkt, length));
	if (n >= IPV6_EXTENSIONS)
		note(pkt, REASON_MANY_HEADERS);
	if (pkt->tuple.protocol == IPPROTO_FRAGMENT)
		return parse_fragment_header(pkt, header);
	if (pkt->tuple.protocol == IPPROTO_HOPOPTS && n)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	length += header->length * 8;
	if (!parse_step(pkt, length))
		return leave(pkt, VERDICT_PASS, REASON_TRUNCATED);
	/* on its way to somebody else, by us (RFC 8200, 4.4) */
	if (pkt->tuple.protocol == IPPROTO_ROUTING && header->segments_left)
		return leave(pkt, VERDICT_PASS, REASON_NOT_OURS);
	pkt->tuple.protocol = header->next;
	return VERDICT_CONTINUE;
}

struct extension_walk {
	struct xdp_md *ctx;
	struct packet *pkt;
	enum verdict verdict;
};

static long extension_step(__u32 i, struct extension_walk *walk)
{
	walk->verdict = parse_extension(walk->ctx, walk->pkt, i);
	return walk->verdict != VERDICT_CONTINUE || !is_extension(walk->pkt->tuple.protocol);
}

static __always_inline enum verdict parse_ipv6(struct xdp_md *ctx, struct packet *pkt)
{
	struct ipv6hdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));
	struct extension_walk walk = { .ctx = ctx, .pkt = pkt, .verdict = VERDICT_CONTINUE };

	if (!ip || ip->version != 6)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	parse_begin(pkt, sizeof(*ip) + bpf_ntohs(ip->payload_len));
	parse_step(pkt, sizeof(*ip));
	pkt->tuple.protocol = ip->nexthdr;
	if (!is_extension(pkt->tuple.protocol))
		return parse_protocol(pkt);
	/* a loop that the verifier walks once, not once for each number of headers */
	bpf_loop(IPV6_EXTENSIONS_READ, extension_step, &walk, 0);
	if (walk.verdict != VERDICT_CONTINUE)
		return walk.verdict;
	if (is_extension(pkt->tuple.protocol))
		return leave(pkt, VERDICT_PASS, REASON_MANY_HEADERS);
	return parse_protocol(pkt);
}

/* Tags that are read to find the IP header. */
#define VLAN_TAGS_READ 4

static __always_inline enum verdict parse_link(struct xdp_md *ctx, struct packet *pkt)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct vlan_tag *tag;
	__be16 protocol;

	if (!eth)
		return leave(pkt, VERDICT_PASS, REASON_NOT_IP);
	protocol = eth->h_proto;
	pkt->l3_offset = sizeof(*eth);
	for (int i = 0; i < VLAN_TAGS_READ && is_vlan(protocol); i++) {
		tag = packet_at(ctx, pkt->l3_offset, sizeof(*tag));
		if (!tag)
			return leave(pkt, VERDICT_PASS, REASON_NOT_IP);
		if (i < VLAN_TAGS)
			pkt->tags.tag[i] = (__u32)bpf_ntohs(protocol) << 16 |
					   bpf_ntohs(tag->control);
		else
			note(pkt, REASON_MANY_HEADERS);
		protocol = tag->protocol;
		pkt->l3_offset += sizeof(*tag);
	}
	pkt->vlan = vlan_of(&pkt->tags);
	pkt->is_arp = protocol == bpf_htons(ETH_P_ARP);
	pkt->is_v6 = protocol == bpf_htons(ETH_P_IPV6);
	if (!pkt->is_v6 && protocol != bpf_htons(ETH_P_IP))
		return leave(pkt, VERDICT_PASS, REASON_NOT_IP);
	return VERDICT_CONTINUE;
}

static __always_inline enum verdict parse_addresses(struct xdp_md *ctx, struct packet *pkt)
{
	struct ipv6hdr *v6;
	struct iphdr *v4;

	if (!pkt->is_v6) {
		v4 = packet_at(ctx, pkt->l3_offset, sizeof(*v4));
		if (!v4)
			return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
		pkt->tuple.src = addr_from_v4(v4->saddr);
		pkt->tuple.dst = addr_from_v4(v4->daddr);
		return VERDICT_CONTINUE;
	}
	v6 = packet_at(ctx, pkt->l3_offset, sizeof(*v6));
	if (!v6)
		return leave(pkt, VERDICT_PASS, REASON_BAD_IP_HEADER);
	pkt->tuple.src = addr_from_v6(&v6->saddr);
	pkt->tuple.dst = addr_from_v6(&v6->daddr);
	if (addr_is_v4(&pkt->tuple.src) || addr_is_v4(&pkt->tuple.dst))
		return leave(pkt, VERDICT_PASS, REASON_NOT_OURS);
	return VERDICT_CONTINUE;
}

/* Right behind its IP header. */
static __always_inline bool carries_icmp(struct xdp_md *ctx, const struct packet *pkt)
{
	__u32 at = pkt->is_v6 ? offsetof(struct ipv6hdr, nexthdr) :
				offsetof(struct iphdr, protocol);
	__u8 *protocol = packet_at(ctx, pkt->l3_offset + at, sizeof(*protocol));

	return protocol && *protocol == icmp_of(pkt->is_v6);
}

static __always_inline enum verdict parse_filter(struct xdp_md *ctx, struct packet *pkt)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	__u32 zero = 0;
	struct address_filter *filter = bpf_map_lookup_elem(&address_filters, &zero);

	if (!eth || !filter)
		return leave(pkt, VERDICT_PASS, REASON_NOT_OURS);
	pkt->is_stranger = !filter_has(filter, &pkt->tuple.dst, FILTER_DESTINATION) &&
			   !filter_has(filter, &pkt->tuple.src, FILTER_SOURCE);
	if (pkt->is_stranger && (!carries_icmp(ctx, pkt) || !sent_to_us(eth)))
		return leave(pkt, VERDICT_PASS, REASON_NOT_OURS);
	if (!sent_to_us(eth))
		return leave(pkt, VERDICT_PASS, REASON_OTHER_MAC);
	return VERDICT_CONTINUE;
}

/* Such a first fragment, and those after it, are none of ours, whoever else's datagram they are of. */
static __always_inline bool is_of_another_protocol(const struct packet *pkt)
{
	return pkt->l4_offset == pkt->payload_offset &&
	       (pkt->tuple.protocol == icmp_of(pkt->is_v6) || pkt->reason == REASON_OTHER_PROTOCOL);
}

/* A message for the next stage, unless something is wrong with it. */
static __always_inline enum verdict parse_icmp(struct packet *pkt, enum verdict verdict)
{
	bool whole = verdict == VERDICT_CONTINUE && !pkt->flaw && !pkt->is_fragment;

	return leave(pkt, whole ? VERDICT_ICMP : VERDICT_PASS, REASON_ICMP);
}

/* Verified by itself, so that its many paths do not multiply with those of what follows. */
__noinline enum verdict parse(struct xdp_md *ctx, struct packet *pkt)
{
	enum verdict verdict;

	if (!pkt)
		return VERDICT_ABORTED;
	verdict = parse_link(ctx, pkt);
	if (verdict == VERDICT_CONTINUE)
		verdict = parse_addresses(ctx, pkt);
	if (verdict == VERDICT_CONTINUE)
		verdict = parse_filter(ctx, pkt);
	if (verdict != VERDICT_CONTINUE)
		return verdict;
	pkt->length = bpf_xdp_get_buff_len(ctx);
	verdict = pkt->is_v6 ? parse_ipv6(ctx, pkt) : parse_ipv4(ctx, pkt);
	if (pkt->tuple.protocol == icmp_of(pkt->is_v6))
		verdict = parse_icmp(pkt, verdict);
	if (is_of_another_protocol(pkt))
		pkt->is_fragment = false;
	if (pkt->is_stranger) /* so far */
		pkt->reason = REASON_NOT_OURS;
	return verdict == VERDICT_CONTINUE ? parse_l4(ctx, pkt) : verdict;
}

#endif
