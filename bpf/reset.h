/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The answer to a TCP segment of no connection, or that nobody takes: RFC 9293, 3.10.7.1. */
#ifndef TINYLB_RESET_H
#define TINYLB_RESET_H

#include "answer.h"
#include "l4.h"

/* The header of the RST, without its checksum, from that of the segment. False: it is a RST itself. */
static __always_inline bool reset_header(const struct packet *pkt, const struct tcphdr *got,
					 struct tcphdr *reset)
{
	if (got->rst)
		return false;
	*reset = (struct tcphdr){
		.source = got->dest,
		.dest = got->source,
		.doff = sizeof(*reset) / 4,
		.rst = 1,
	};
	if (got->ack) {
		reset->seq = got->ack_seq;
		return true;
	}
	reset->ack = 1;
	reset->ack_seq = bpf_htonl(bpf_ntohl(got->seq) + got->syn + got->fin + pkt->l4_length -
				   got->doff * 4);
	return true;
}

static __always_inline void reset_checksum(const struct ip_header *ip, bool partial,
					   struct tcphdr *reset)
{
	__u16 pseudo = csum_pseudo(ip->src, ip->dst, IPPROTO_TCP, sizeof(*reset));
	__u64 sum = pseudo;

	for (__u32 i = 0; i < sizeof(*reset) / 4; i++)
		sum += ((__u32 *)reset)[i];
	reset->check = partial ? pseudo : (__u16)~csum_fold(sum);
}

static __always_inline bool reset_write(struct xdp_md *ctx, __u32 offset,
					const struct tcphdr *reset)
{
	struct tcphdr *at = packet_at(ctx, offset, sizeof(*at));

	if (!at)
		return false;
	*at = *reset;
	return true;
}

/* Makes the frame the answer to itself. False: it gets none. */
static __always_inline bool reset_answer(struct xdp_md *ctx, const struct packet *pkt, __u64 now)
{
	struct tcphdr *got = packet_at(ctx, pkt->l4_offset, sizeof(*got)), reset;
	struct ip_header ip = {
		.src = &pkt->tuple.dst,
		.dst = &pkt->tuple.src,
		.payload = sizeof(reset),
		.protocol = IPPROTO_TCP,
		.ttl = TTL_OF_OURS,
		.dont_fragment = true,
		.is_v6 = pkt->is_v6,
	};
	__u32 size = ip_header_size(pkt->is_v6);

	if (!got || pkt->is_fragment || !reset_header(pkt, got, &reset) ||
	    !answer_is_due(ANSWER_RESET, now))
		return false;
	reset_checksum(&ip,
		       checksum_mode == CHECKSUM_KEEP_PARTIAL && l4_is_partial(pkt, got->check),
		       &reset);
	return replace_headers(ctx, pkt, pkt->l4_offset - pkt->l3_offset, size, pkt->is_v6) &&
	       ip_write(ctx, pkt->l3_offset, &ip) &&
	       reset_write(ctx, pkt->l3_offset + size, &reset) &&
	       cut(ctx, pkt->l3_offset + size + sizeof(reset));
}

#endif
