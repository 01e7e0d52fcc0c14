/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* forward: nat and dnat. Addresses and ports rewritten; both directions pass by here. */
#ifndef TINYLB_NAT_H
#define TINYLB_NAT_H

#include "csum.h"
#include "l4.h"
#include "translate.h"

/*
 * The L4 checksum for a packet whose addresses change to src and dst, and whose
 * addresses and ports together change its sum by `change`.
 */
static __always_inline __u16 nat_l4_checksum(struct xdp_md *ctx, const struct packet *pkt,
					     __u16 csum, const struct addr *src,
					     const struct addr *dst, __u64 change)
{
	bool udp = pkt->tuple.protocol == IPPROTO_UDP;

	if (udp && !csum && (pkt->is_v6 || addr_is_v4(dst)))
		return 0;
	if (l4_is_partial(pkt, csum) && checksum_mode == CHECKSUM_KEEP_PARTIAL)
		return csum_pseudo(src, dst, pkt->tuple.protocol, pkt->l4_length);
	/* one that lacks only in IPv4 must be there in IPv6 (RFC 7915, 4.5) */
	if ((udp && !csum) || l4_is_partial(pkt, csum))
		csum = l4_checksum(ctx, pkt, csum);
	csum = csum_update(csum, change);
	return udp && !csum ? 0xffff : csum;
}

static __always_inline bool nat_addresses_v6(struct xdp_md *ctx, const struct packet *pkt,
					     const struct addr *src, const struct addr *dst)
{
	struct ipv6hdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));

	if (!ip)
		return false;
	ip->hop_limit--;
	__builtin_memcpy(&ip->saddr, src, sizeof(*src));
	__builtin_memcpy(&ip->daddr, dst, sizeof(*dst));
	return true;
}

static __always_inline bool nat_addresses_v4(struct xdp_md *ctx, const struct packet *pkt,
					     const struct addr *src, const struct addr *dst,
					     __u64 change)
{
	struct iphdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));
	__u16 *ttl;

	if (!ip)
		return false;
	ttl = (__u16 *)&ip->ttl; /* and protocol: a word of the checksum */
	change += (__u16) ~*ttl;
	ip->ttl--;
	change += *ttl;
	ip->saddr = src->word[3];
	ip->daddr = dst->word[3];
	ip->check = csum_update(ip->check, change);
	return true;
}

/* The L4 header of the packet that answers `other`. Verified by itself, like parse(). */
__noinline bool nat_ports(struct xdp_md *ctx, const struct packet *pkt, const struct tuple *other,
			  __u64 address_change)
{
	__be16 *ports;
	__sum16 *csum;
	__u64 change;

	if (!pkt || !other)
		return false;
	csum = l4_checksum_field(ctx, pkt);
	ports = packet_at(ctx, pkt->l4_offset, 2 * sizeof(*ports));
	if (!csum || !ports)
		return false;
	change = address_change + (__u16)~pkt->tuple.sport + (__u16)~pkt->tuple.dport +
		 other->dport + other->sport;
	*csum = nat_l4_checksum(ctx, pkt, *csum, &other->dst, &other->src, change);
	ports[0] = other->dport;
	ports[1] = other->sport;
	return true;
}

/*
 * Makes the packet the one that answers `other`. False: it cannot be, for
 * pkt->reason. Verified by itself, like parse().
 */
__noinline bool nat_rewrite(struct xdp_md *ctx, struct packet *pkt, const struct tuple *other)
{
	struct ip_header header = {};
	const struct addr *src, *dst;
	bool crosses;
	__u64 change;

	if (!pkt || !other)
		return false;
	header.src = src = &other->dst;
	header.dst = dst = &other->src;
	crosses = pkt->is_v6 == addr_is_v4(dst);
	if (crosses && !translate_prepare(ctx, pkt, &header))
		return false;
	change = csum_addr_inverse(&pkt->tuple.src) + csum_addr_inverse(&pkt->tuple.dst) +
		 csum_addr(src) + csum_addr(dst);
	if (!nat_ports(ctx, pkt, other, change))
		return false;
	if (crosses)
		return translate(ctx, pkt, &header);
	return pkt->is_v6 ? nat_addresses_v6(ctx, pkt, src, dst) :
			    nat_addresses_v4(ctx, pkt, src, dst, change);
}

#endif
