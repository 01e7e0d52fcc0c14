/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From one IP version to the other: RFC 7915, for packets with TCP and UDP. */
#ifndef TINYLB_TRANSLATE_H
#define TINYLB_TRANSLATE_H

#include "ip.h"

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_LSRR 131
#define OPTION_SSRR 137
#define OPTIONS_MAX 40

/* Larger ones must not be fragmented on their way (RFC 7915, 5.1). */
#define FRAGMENTABLE_MAX 1260

struct option_walk {
	struct xdp_md *ctx;
	__u32 offset;
	__u32 left;
	bool found;
};

static long option_step(__u32 i, struct option_walk *walk)
{
	__u8 *kind = packet_at(walk->ctx, walk->offset, 1);
	__u8 *length = packet_at(walk->ctx, walk->offset + 1, 2); /* and pointer */
	__u32 size = 1;

	if (!walk->left || !kind || *kind == OPTION_END)
		return 1;
	if (*kind != OPTION_NOP) {
		if (!length || walk->left < 2 || length[0] < 2 || length[0] > walk->left)
			return 1;
		size = length[0];
		if ((*kind == OPTION_LSRR || *kind == OPTION_SSRR) && size > 2 &&
		    length[1] <= size) {
			walk->found = true;
			return 1;
		}
	}
	walk->offset += size;
	walk->left -= size;
	return 0;
}

/* An IPv4 packet that is to go by way of others yet (RFC 7915, 4.1). */
static __always_inline bool has_source_route(struct xdp_md *ctx, const struct packet *pkt)
{
	struct option_walk walk = {
		.ctx = ctx,
		.offset = pkt->l3_offset + sizeof(struct iphdr),
		.left = pkt->l4_offset - pkt->l3_offset - sizeof(struct iphdr),
	};

	if (!walk.left)
		return false;
	bpf_loop(OPTIONS_MAX, option_step, &walk, 0);
	return walk.found;
}

/* What a header in the other IP version says of fragments (RFC 7915, 5.1). */
static __always_inline void translate_fragmentation(const struct packet *pkt,
						    struct ip_header *header)
{
	header->dont_fragment = !pkt->has_fragment_header &&
				sizeof(struct iphdr) + header->payload > FRAGMENTABLE_MAX;
	header->id = pkt->has_fragment_header ? pkt->fragment_id : ip_id(header->dont_fragment);
}

/* The header in the other IP version, and pkt->reason set where there is none. */
static __always_inline bool translate_prepare(struct xdp_md *ctx, struct packet *pkt,
					      struct ip_header *header)
{
	__u32 removed = pkt->l4_offset - pkt->l3_offset;

	if (!ip_read(ctx, pkt, header))
		return false;
	if (!pkt->is_v6 && has_source_route(ctx, pkt)) {
		pkt->reason = REASON_SOURCE_ROUTE;
		return false;
	}
	header->is_v6 = !pkt->is_v6;
	header->payload = pkt->ip_length - removed;
	header->protocol = pkt->tuple.protocol;
	header->ttl--;
	translate_fragmentation(pkt, header);
	pkt->reason = ip_fits(header) ? pkt->reason : REASON_TOO_BIG;
	return ip_fits(header);
}

static __always_inline bool translate(struct xdp_md *ctx, const struct packet *pkt,
				      const struct ip_header *header)
{
	return replace_headers(ctx, pkt, pkt->l4_offset - pkt->l3_offset,
			       ip_header_size(header->is_v6), header->is_v6) &&
	       ip_write(ctx, pkt->l3_offset, header);
}

#endif
