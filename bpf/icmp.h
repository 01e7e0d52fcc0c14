/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors (RFC 792, RFC 1812, 4.3.2; RFC 4443) about the packet in hand. */
#ifndef TINYLB_ICMP_H
#define TINYLB_ICMP_H

#include "answer.h"
#include "l4.h"

/* The largest that nobody has to fragment, headers included (RFC 1812, 4.3.2.3; RFC 4443, 2.4). */
#define ICMPV4_ERROR_MAX 576
#define ICMPV6_ERROR_MAX 1280

#define ICMPV4_UNREACHABLE 3
#define ICMPV6_UNREACHABLE 1
#define ICMPV4_TIME_EXCEEDED 11
#define ICMPV6_TIME_EXCEEDED 3

#define ICMPV6_PACKET_TOO_BIG 2

/* Codes of "unreachable". */
#define ICMPV4_PORT 3
#define ICMPV4_FRAGMENTATION_NEEDED 4
#define ICMPV6_PORT 4

#define INTERNETWORK_CONTROL 0xc0 /* precedence 6: RFC 1812, 4.3.2.5 */

struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 rest;
};
ASSERT_SIZE(struct icmp_error, 8);

/* The header of a message that arrived. */
static __always_inline struct icmp_error *icmp_at(struct xdp_md *ctx, const struct packet *pkt)
{
	if (pkt->l4_length < sizeof(struct icmp_error))
		return NULL;
	return packet_at(ctx, pkt->l4_offset, sizeof(struct icmp_error));
}

static __always_inline bool icmp_write(struct xdp_md *ctx, __u32 offset,
				       const struct icmp_error *error)
{
	struct icmp_error *at = packet_at(ctx, offset, sizeof(*at));

	if (!at)
		return false;
	*at = *error;
	return true;
}

/* Its checksum, where `sum` is that of the quoted packet; IPv6 has a pseudo header. */
static __always_inline __u16 icmp_checksum(const struct ip_header *ip,
					   const struct icmp_error *error, __u64 sum)
{
	sum += *(__u32 *)error;
	sum += error->rest;
	if (ip->is_v6)
		sum += csum_pseudo(ip->src, ip->dst, IPPROTO_ICMPV6, ip->payload);
	return ~csum_fold(sum);
}

/* Makes the frame an error about itself, sent by `from`. */
static __always_inline bool icmp_error(struct xdp_md *ctx, const struct packet *pkt,
				       const struct addr *from, struct icmp_error error)
{
	__u32 size = ip_header_size(pkt->is_v6) + sizeof(error);
	__u32 most = (pkt->is_v6 ? ICMPV6_ERROR_MAX : ICMPV4_ERROR_MAX) - size;
	__u32 quote = pkt->ip_length < most ? pkt->ip_length : most;
	struct ip_header ip = {
		.src = from,
		.dst = &pkt->tuple.src,
		.payload = sizeof(error) + quote,
		.protocol = pkt->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
		.tos = pkt->is_v6 ? 0 : INTERNETWORK_CONTROL,
		.ttl = TTL_OF_OURS,
		.dont_fragment = true,
		.is_v6 = pkt->is_v6,
	};
	__u16 sum;

	if (!l4_final_sum(ctx, pkt, pkt->l3_offset, quote, &sum))
		return false;
	error.check = icmp_checksum(&ip, &error, sum);
	return cut(ctx, pkt->l3_offset + quote) && replace_headers(ctx, pkt, 0, size, pkt->is_v6) &&
	       ip_write(ctx, pkt->l3_offset, &ip) &&
	       icmp_write(ctx, pkt->l3_offset + size - sizeof(error), &error);
}

/* Whose address says that the packet's time is over: ours, that it was sent to or by way of. */
static __always_inline const struct addr *our_address(const struct packet *pkt)
{
	if (pkt->known && pkt->direction == FROM_BACKEND &&
	    addr_equal(&pkt->tuple.dst, &pkt->other.src))
		return &pkt->other.dst;
	return &pkt->tuple.dst;
}

/* Makes the frame the answer to itself: RFC 1191, 4; RFC 4443, 3.2. False: it gets none. */
static __always_inline bool fragmentation_needed(struct xdp_md *ctx, const struct packet *pkt,
						 const struct addr *from, __u64 now)
{
	struct icmp_error error = {
		.type = pkt->is_v6 ? ICMPV6_PACKET_TOO_BIG : ICMPV4_UNREACHABLE,
		.code = pkt->is_v6 ? 0 : ICMPV4_FRAGMENTATION_NEEDED,
		.rest = bpf_htonl(pkt->told_mtu),
	};

	return answer_is_due(ANSWER_ICMP_ERROR, now) && icmp_error(ctx, pkt, from, error);
}

/* Makes the frame the answer to a datagram that nobody takes. False: it gets none. */
static __always_inline bool port_unreachable(struct xdp_md *ctx, const struct packet *pkt,
					     const struct addr *from, __u64 now)
{
	struct icmp_error error = {
		.type = pkt->is_v6 ? ICMPV6_UNREACHABLE : ICMPV4_UNREACHABLE,
		.code = pkt->is_v6 ? ICMPV6_PORT : ICMPV4_PORT,
	};

	return answer_is_due(ANSWER_ICMP_ERROR, now) && icmp_error(ctx, pkt, from, error);
}

/* Makes the frame the answer to itself. False: it gets none. */
static __always_inline bool time_exceeded(struct xdp_md *ctx, const struct packet *pkt,
					  const struct addr *from, __u64 now)
{
	struct icmp_error error = {
		.type = pkt->is_v6 ? ICMPV6_TIME_EXCEEDED : ICMPV4_TIME_EXCEEDED,
		.code = 0, /* in transit */
	};

	return answer_is_due(ANSWER_ICMP_ERROR, now) && icmp_error(ctx, pkt, from, error);
}

#endif
