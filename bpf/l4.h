/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP's and UDP's checksums. A local sender on a veth, tun or virtio leaves only
 * the pseudo header's sum in the field (CHECKSUM_PARTIAL): native XDP loses the
 * mark, so nobody after us would complete it; generic XDP keeps it, so the
 * field must stay a pseudo header's sum.
 */
#ifndef TINYLB_L4_H
#define TINYLB_L4_H

#include "config.h"
#include "csum.h"
#include "packet.h"

static __always_inline __u32 l4_checksum_offset(const struct packet *pkt)
{
	return pkt->tuple.protocol == IPPROTO_TCP ? offsetof(struct tcphdr, check) :
						    offsetof(struct udphdr, check);
}

static __always_inline __sum16 *l4_checksum_field(struct xdp_md *ctx, const struct packet *pkt)
{
	return packet_at(ctx, pkt->l4_offset + l4_checksum_offset(pkt), sizeof(__sum16));
}

static __always_inline bool l4_is_partial(const struct packet *pkt, __u16 csum)
{
	if (checksum_mode == CHECKSUM_FULL || pkt->is_completed || pkt->is_fragment ||
	    (pkt->tuple.protocol == IPPROTO_UDP && !csum))
		return false;
	return csum ==
	       csum_pseudo(&pkt->tuple.src, &pkt->tuple.dst, pkt->tuple.protocol, pkt->l4_length);
}

/* The full checksum of the packet as it is, whose field holds `csum`: a partial one or zero. */
static __always_inline __u16 l4_checksum(struct xdp_md *ctx, const struct packet *pkt, __u16 csum)
{
	__u64 pseudo = 0;
	__u16 sum;

	if (!csum_range(ctx, pkt->l4_offset, pkt->l4_length, &sum))
		return csum;
	/* the field's own sum stands in for the pseudo header */
	if (!csum)
		pseudo = csum_pseudo(&pkt->tuple.src, &pkt->tuple.dst, pkt->tuple.protocol,
				     pkt->l4_length);
	return ~csum_fold(sum + pseudo);
}

/*
 * For packets whose addresses stay: nobody completes a partial checksum after
 * native XDP, nor one of a packet that leaves in pieces. Verified by itself, like parse().
 */
__noinline bool l4_complete(struct xdp_md *ctx, struct packet *pkt)
{
	__sum16 *field;
	__u16 csum;

	if (!pkt)
		return false;
	if (pkt->is_error) /* its checksum is always full */
		return true;
	field = l4_checksum_field(ctx, pkt);
	if (!field)
		return false;
	if ((checksum_mode != CHECKSUM_COMPLETE && !pkt->cut_to) || !l4_is_partial(pkt, *field))
		return true;
	csum = l4_checksum(ctx, pkt, *field);
	*field = pkt->tuple.protocol == IPPROTO_UDP && !csum ? 0xffff : csum;
	pkt->is_completed = true;
	return true;
}

/*
 * The sum over the IP packet, of which what its checksum covers is taken from that: a wrong one
 * stays wrong. Verified by itself, like parse().
 */
__noinline bool l4_inner_sum(struct xdp_md *ctx, const struct packet *pkt, __u16 *sum)
{
	__u32 header, behind;
	__u16 head, tail;
	__sum16 *field;

	if (!pkt || !sum)
		return false;
	if (pkt->is_error)
		return csum_range(ctx, pkt->l3_offset, pkt->ip_length, sum);
	field = l4_checksum_field(ctx, pkt);
	if (!field)
		return false;
	header = pkt->l4_offset - pkt->l3_offset;
	behind = pkt->ip_length - header - pkt->l4_length; /* IP may carry more than UDP says */
	if (!*field && pkt->tuple.protocol == IPPROTO_UDP)
		return csum_range(ctx, pkt->l3_offset, pkt->ip_length, sum);
	if (!csum_range(ctx, pkt->l3_offset, header, &head) ||
	    !csum_range(ctx, pkt->l4_offset + pkt->l4_length, behind, &tail))
		return false;
	if (pkt->l4_length & 1)
		tail = __builtin_bswap16(tail);
	*sum = ~csum_pseudo(&pkt->tuple.src, &pkt->tuple.dst, pkt->tuple.protocol, pkt->l4_length);
	*sum = csum_fold((__u64)*sum + head + tail);
	return true;
}

/*
 * The sum over a stretch of the packet from `offset` on, as it will be when the
 * kernel has completed a partial checksum: then the L4 part, as far as it is in
 * the stretch, sums to the inverse of the pseudo header's sum. Verified by
 * itself, like parse().
 */
__noinline bool l4_final_sum(struct xdp_md *ctx, const struct packet *pkt, __u32 offset,
			     __u32 length, __u16 *sum)
{
	__u32 before, behind = 0;
	__u16 head, tail;
	__sum16 *field;

	if (!pkt || !sum)
		return false;
	field = l4_checksum_field(ctx, pkt);
	before = pkt->l4_offset - offset;
	if (!field)
		return false;
	/* without its field nobody can complete it */
	if (checksum_mode != CHECKSUM_KEEP_PARTIAL || !l4_is_partial(pkt, *field) ||
	    length < before + l4_checksum_offset(pkt) + sizeof(*field))
		return csum_range(ctx, offset, length, sum);
	if (length - before > pkt->l4_length)
		behind = length - before - pkt->l4_length;
	*sum = ~*field;
	if (!csum_range(ctx, offset, before, &head) ||
	    !csum_range(ctx, offset + length - behind, behind, &tail))
		return false;
	if (pkt->l4_length & 1)
		tail = __builtin_bswap16(tail);
	*sum = csum_fold((__u64)*sum + head + tail);
	return true;
}

#endif
