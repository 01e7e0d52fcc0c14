/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * forward: ipip and gue. The packet goes to the backend inside another one: IP in
 * IP (RFC 2003, 2473, 4213), or GUE (draft-ietf-intarea-gue, variant 0).
 */
#ifndef TINYLB_TUNNEL_H
#define TINYLB_TUNNEL_H

#include "ip.h"
#include "l4.h"
#include "select.h"

/* Source ports that stand for nothing (RFC 6335, 6): 49152 to 65535. */
#define GUE_PORTS_FIRST 0xc000
#define GUE_PORTS_MASK 0x3fff

#define FLOW_LABEL_MASK 0xfffff

struct gue {
	struct udphdr udp;
	__u8 flags; /* variant 0, no options */
	__u8 protocol; /* of what is inside */
	__be16 more_flags;
};
ASSERT_SIZE(struct gue, 12);

/* Spread over the prefix by the flow: receivers hash outer addresses. */
static __always_inline struct addr tunnel_source(const struct backend *backend, __u32 hash)
{
	struct addr source = backend->tunnel_source;
	__u32 free = 128 - backend->tunnel_source_bits;

	if (free >= 32)
		source.word[3] |= bpf_htonl(hash);
	else
		source.word[3] |= bpf_htonl(hash & ((1U << (free & 31)) - 1));
	return source;
}

/* Over IPv6 it must have one (RFC 8200, 8.1). `inner` is the sum over the packet in it. */
static __always_inline void gue_checksum(const struct ip_header *outer, __u64 inner,
					 struct gue *gue)
{
	__u64 sum = csum_pseudo(outer->src, outer->dst, IPPROTO_UDP, outer->payload);
	__u16 check;

	for (__u32 i = 0; i < sizeof(*gue) / 4; i++)
		sum += ((__u32 *)gue)[i];
	check = ~csum_fold(sum + inner);
	gue->udp.check = check ? check : 0xffff;
}

/* All but the checksum. */
static __always_inline void gue_prepare(const struct backend *backend, __u32 hash,
					struct ip_header *outer, struct gue *gue)
{
	*gue = (struct gue){
		.udp = {
			.source = bpf_htons(GUE_PORTS_FIRST | (hash & GUE_PORTS_MASK)),
			.dest = backend->gue_port,
			.len = bpf_htons(outer->payload),
		},
		.protocol = outer->protocol,
	};
	outer->protocol = IPPROTO_UDP;
}

static __always_inline bool gue_write(struct xdp_md *ctx, __u32 offset, const struct gue *gue)
{
	struct gue *at = packet_at(ctx, offset, sizeof(*at));

	if (!at)
		return false;
	*at = *gue;
	return true;
}

/*
 * Puts the packet into another one to the backend. False: it cannot be, for
 * pkt->reason. Verified by itself, like parse().
 */
__noinline bool tunnel_rewrite(struct xdp_md *ctx, struct packet *pkt,
			       const struct backend *backend, bool is_gue)
{
	struct ip_header outer = {};
	struct addr source;
	struct gue gue;
	__u32 hash, size;
	__u16 inner;

	if (!pkt || !backend)
		return false;
	hash = tuple_hash(&pkt->tuple);
	source = tunnel_source(backend, hash);
	outer.src = &source;
	outer.dst = &backend->address;
	outer.is_v6 = !addr_is_v4(&backend->address);
	outer.payload = pkt->ip_length + (is_gue ? sizeof(struct gue) : 0);
	outer.flow_label = hash & FLOW_LABEL_MASK;
	outer.protocol = pkt->is_v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	if (!ip_read(ctx, pkt, &outer))
		return false;
	if (!ip_fits(&outer)) {
		pkt->reason = REASON_TOO_BIG;
		return false;
	}
	if (!l4_complete(ctx, pkt))
		return false;
	outer.ttl = TTL_OF_OURS;
	outer.id = ip_id(outer.dont_fragment);
	if (is_gue) {
		gue_prepare(backend, hash, &outer, &gue);
		if (outer.is_v6 && !l4_inner_sum(ctx, pkt, &inner))
			return false;
		if (outer.is_v6)
			gue_checksum(&outer, inner, &gue);
	}
	size = ip_header_size(outer.is_v6);
	if (!replace_headers(ctx, pkt, 0, size + (is_gue ? sizeof(gue) : 0), outer.is_v6))
		return false;
	return ip_write(ctx, pkt->l3_offset, &outer) &&
	       (!is_gue || gue_write(ctx, pkt->l3_offset + size, &gue));
}

#endif
