/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IP headers that are read, written and exchanged for others. */
#ifndef TINYLB_IP_H
#define TINYLB_IP_H

#include "clock.h"
#include "csum.h"
#include "packet.h"
#include "parse.h"

#define IPV4_DONT_FRAGMENT 0x4000
#define TTL_OF_OURS 64 /* of packets that begin here (RFC 1700) */

/* A header without options, for both families. */
struct ip_header {
	const struct addr *src;
	const struct addr *dst;
	__u32 payload; /* bytes behind the header */
	__u32 flow_label; /* IPv6 */
	__u16 id; /* IPv4, host byte order */
	__u16 fragment; /* IPv4: offset and flag, host byte order */
	__u8 protocol;
	__u8 tos; /* or traffic class */
	__u8 ttl; /* or hop limit */
	bool dont_fragment; /* IPv4 */
	bool is_v6;
};

static __always_inline __u32 ip_header_size(bool is_v6)
{
	return is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/* Its length field can say how long it is. */
static __always_inline bool ip_fits(const struct ip_header *header)
{
	return header->payload + (header->is_v6 ? 0 : sizeof(struct iphdr)) <= IP_LENGTH_MAX;
}

/* What of the packet's header a header for the same payload carries on. */
static __always_inline bool ip_read(struct xdp_md *ctx, const struct packet *pkt,
				    struct ip_header *header)
{
	struct ipv6hdr *v6;
	struct iphdr *v4;

	if (pkt->is_v6) {
		v6 = packet_at(ctx, pkt->l3_offset, sizeof(*v6));
		if (!v6)
			return false;
		header->tos = bpf_ntohl(*(__be32 *)v6) >> 20;
		header->ttl = v6->hop_limit;
		header->dont_fragment = true;
		return true;
	}
	v4 = packet_at(ctx, pkt->l3_offset, sizeof(*v4));
	if (!v4)
		return false;
	header->tos = v4->tos;
	header->ttl = v4->ttl;
	header->dont_fragment = v4->frag_off & bpf_htons(IPV4_DONT_FRAGMENT);
	return true;
}

/* Only what may be fragmented needs one (RFC 6864, 4.1). */
static __always_inline __u16 ip_id(bool dont_fragment)
{
	return dont_fragment ? 0 : random_u32();
}

static __always_inline void ip_make_v4(const struct ip_header *header, struct iphdr *ip)
{
	__u64 sum = 0;

	*ip = (struct iphdr){
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tos = header->tos,
		.tot_len = bpf_htons(sizeof(*ip) + header->payload),
		.id = bpf_htons(header->id),
		.frag_off = bpf_htons(header->fragment |
				      (header->dont_fragment ? IPV4_DONT_FRAGMENT : 0)),
		.ttl = header->ttl,
		.protocol = header->protocol,
		.saddr = header->src->word[3],
		.daddr = header->dst->word[3],
	};
	for (__u32 i = 0; i < sizeof(*ip) / 4; i++)
		sum += ((__u32 *)ip)[i];
	ip->check = ~csum_fold(sum);
}

static __always_inline bool ip_write_v4(struct xdp_md *ctx, __u32 offset,
					const struct ip_header *header)
{
	struct iphdr *at = packet_at(ctx, offset, sizeof(*at)), ip;

	if (!at)
		return false;
	ip_make_v4(header, &ip);
	*at = ip;
	return true;
}

static __always_inline void ip_make_v6(const struct ip_header *header, struct ipv6hdr *ip)
{
	*(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)header->tos << 20 | header->flow_label);
	ip->payload_len = bpf_htons(header->payload);
	ip->nexthdr = header->protocol;
	ip->hop_limit = header->ttl;
	__builtin_memcpy(&ip->saddr, header->src, sizeof(*header->src));
	__builtin_memcpy(&ip->daddr, header->dst, sizeof(*header->dst));
}

static __always_inline bool ip_write_v6(struct xdp_md *ctx, __u32 offset,
					const struct ip_header *header)
{
	struct ipv6hdr *ip = packet_at(ctx, offset, sizeof(*ip));

	if (ip)
		ip_make_v6(header, ip);
	return ip;
}

static __always_inline bool ip_write(struct xdp_md *ctx, __u32 offset,
				     const struct ip_header *header)
{
	return header->is_v6 ? ip_write_v6(ctx, offset, header) : ip_write_v4(ctx, offset, header);
}

/* Ethernet, and as many tags as the packet has. */
struct link_header {
	struct ethhdr eth;
	struct vlan_tag tags[VLAN_TAGS];
};

static __always_inline bool link_read(struct xdp_md *ctx, const struct packet *pkt,
				      struct link_header *link)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct vlan_tag *tag;

	if (!eth)
		return false;
	link->eth = *eth;
	for (int i = 0; i < VLAN_TAGS; i++) {
		tag = packet_at(ctx, sizeof(*eth) + i * sizeof(*tag), sizeof(*tag));
		if (!tag)
			return false;
		link->tags[i] = *tag;
	}
	return true;
}

static __always_inline bool link_write(struct xdp_md *ctx, const struct packet *pkt,
				       struct link_header *link, __be16 protocol)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct vlan_tag *tag;

	if (!eth)
		return false;
	*eth = link->eth;
	if (pkt->l3_offset == sizeof(*eth))
		eth->h_proto = protocol;
	for (int i = 0; i < VLAN_TAGS; i++) {
		__u32 offset = sizeof(*eth) + i * sizeof(*tag);

		if (offset == pkt->l3_offset)
			break;
		tag = packet_at(ctx, offset, sizeof(*tag));
		if (!tag)
			return false;
		*tag = link->tags[i];
		if (offset + sizeof(*tag) == pkt->l3_offset)
			tag->protocol = protocol;
	}
	return true;
}

/*
 * Puts `added` bytes where the first `removed` ones from the IP header on were,
 * for headers of the given family; the caller fills them. What follows stays
 * where it is in memory, so that generic XDP's notion of where a partial
 * checksum begins holds.
 */
static __always_inline bool replace_headers(struct xdp_md *ctx, const struct packet *pkt,
					    __u32 removed, __u32 added, bool is_v6)
{
	__be16 protocol = is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	struct link_header link;

	if (!link_read(ctx, pkt, &link))
		return false;
	if (bpf_xdp_adjust_head(ctx, (int)removed - (int)added))
		return false;
	return link_write(ctx, pkt, &link, protocol);
}

#endif
