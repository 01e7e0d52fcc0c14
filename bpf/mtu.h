/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What would be too large for the way that it leaves by (RFC 1191, RFC 8201). It is judged as it came, so that its
 * sender can be told with its own packet.
 */
#ifndef TINYLB_MTU_H
#define TINYLB_MTU_H

#include "flow.h"
#include "l4.h"
#include "path_mtu.h"
#include "translate.h"
#include "tunnel.h"

/* Every link takes packets of this size (RFC 791, 3.2; RFC 8200, 5). */
#define IPV4_MTU_MIN 68
#define IPV6_MTU_MIN 1280

/* Of an interface that packets come in by; 0: not known. */
static __always_inline __u32 interface_mtu(__u32 index)
{
	__u32 *mtu = bpf_map_lookup_elem(&interface_mtus, &index);

	return mtu ? *mtu : 0;
}

static __always_inline bool tunnels(enum forward_mode forward)
{
	return forward == FORWARD_IPIP || forward == FORWARD_GUE;
}

/* Into the other family. */
static __always_inline bool crosses(const struct packet *pkt)
{
	return translates(pkt->flow.life.forward) && pkt->is_v6 == addr_is_v4(&pkt->other.src);
}

/* The outer headers of the packet's tunnel. */
static __always_inline __u32 tunnel_size(const struct packet *pkt, const struct backend *backend)
{
	return ip_header_size(!addr_is_v4(&backend->address)) +
	       (pkt->flow.life.forward == FORWARD_GUE ? sizeof(struct gue) : 0);
}

/* What a fragment of IPv4 needs in IPv6 (RFC 7915, 4.1). */
static __always_inline __u32 fragment_header_out(const struct packet *pkt)
{
	return pkt->is_fragment && !pkt->is_v6 ? FRAGMENT_HEADER : 0;
}

/* How long the IP packet will be when it leaves. */
static __always_inline __u32 length_out(const struct packet *pkt, const struct backend *backend)
{
	if (tunnels(pkt->flow.life.forward))
		return pkt->ip_length + tunnel_size(pkt, backend);
	if (crosses(pkt))
		return pkt->ip_length - (pkt->l4_offset - pkt->l3_offset) +
		       ip_header_size(!pkt->is_v6) + fragment_header_out(pkt);
	return pkt->ip_length;
}

/* How long it may be then; 0: that is not known. */
static __always_inline __u32 limit_out(const struct packet *pkt, const struct backend *backend,
				       __u32 interface_limit, __u64 now)
{
	__u32 path;

	if (!tunnels(pkt->flow.life.forward))
		return interface_limit;
	path = path_mtu(backend, now);
	return path && (!interface_limit || path < interface_limit) ? path : interface_limit;
}

/* How long the packets of its sender may be, if they may be `limit` when they leave. */
static __always_inline __u32 mtu_of_sender(const struct packet *pkt, const struct backend *backend,
					   __u32 limit)
{
	__u32 least = pkt->is_v6 ? IPV6_MTU_MIN : IPV4_MTU_MIN;
	int mtu = limit;

	if (tunnels(pkt->flow.life.forward))
		mtu -= tunnel_size(pkt, backend);
	else if (crosses(pkt))
		mtu += (int)ip_header_size(pkt->is_v6) - (int)ip_header_size(!pkt->is_v6) -
		       (int)fragment_header_out(pkt);
	return mtu < (int)least ? least : mtu;
}

/* Nobody has asked that it stays in one piece, or it must fit in the end. */
static __always_inline bool may_be_cut(struct xdp_md *ctx, const struct packet *pkt, __u32 length)
{
	struct ip_header header;

	if (!pkt->is_v6)
		return ip_read(ctx, pkt, &header) && !header.dont_fragment;
	if (tunnels(pkt->flow.life.forward)) /* RFC 2473, 7.1; RFC 4213, 3.2 */
		return pkt->ip_length <= IPV6_MTU_MIN;
	return crosses(pkt) && (pkt->has_fragment_header || length <= FRAGMENTABLE_MAX);
}

/*
 * The kernel has made it of several packets that came in: on no wire is it as long. Generic XDP sees such
 * packets. If more comes in at once than may leave there, TCP's are told by their checksum, which is partial then:
 * a single segment of that length the other side would not have asked for.
 */
static __always_inline bool is_aggregate(struct xdp_md *ctx, const struct packet *pkt,
					 __u32 interface_limit)
{
	__u32 mtu = interface_mtu(ctx->ingress_ifindex);
	__sum16 *field;

	if (mtu && pkt->ip_length > mtu)
		return true;
	if (checksum_mode != CHECKSUM_KEEP_PARTIAL || pkt->tuple.protocol != IPPROTO_TCP ||
	    pkt->ip_length <= interface_limit)
		return false;
	field = l4_checksum_field(ctx, pkt);
	return field && l4_is_partial(pkt, *field);
}

/*
 * VERDICT_CONTINUE: it fits, where IP packets may be `interface_limit` long, 0: nobody knows; or it will in pieces, for
 * which pkt->cut_to is set. Verified by itself, like parse().
 */
__noinline enum verdict judge_length(struct xdp_md *ctx, struct packet *pkt,
				     const struct backend *backend, __u32 interface_limit,
				     __u64 now)
{
	__u32 length, limit;

	if (!pkt || !backend)
		return VERDICT_CONTINUE;
	length = length_out(pkt, backend);
	limit = limit_out(pkt, backend, interface_limit, now);
	if (!limit || length <= limit || is_aggregate(ctx, pkt, interface_limit))
		return VERDICT_CONTINUE;
	if (may_be_cut(ctx, pkt, length)) {
		pkt->cut_to = limit;
		return VERDICT_CONTINUE;
	}
	pkt->told_mtu = mtu_of_sender(pkt, backend, limit);
	return leave(pkt, VERDICT_ANSWER, REASON_MTU_EXCEEDED);
}

#endif
