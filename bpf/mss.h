/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The largest segment that the sender of a SYN says it takes (RFC 9293, 3.7.1): lowered to what fits, never raised. */
#ifndef TINYLB_MSS_H
#define TINYLB_MSS_H

#include "mtu.h"
#include "next_hop.h"

#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_SIZE 4

struct mss_walk {
	struct xdp_md *ctx;
	__u32 begin; /* of the TCP header */
	__u32 offset;
	__u32 left;
	__u32 most;
	__u64 change; /* of a checksum */
};

/* The option's value is at `offset`, anywhere: of a checksum's words it may be the halves of two. */
static __always_inline void mss_lower(struct mss_walk *walk, __u32 offset)
{
	bool odd = (offset - walk->begin) & 1;
	__u8 *value = packet_at(walk->ctx, offset, 2);
	__u16 was, is;

	if (!value)
		return;
	was = value[0] << 8 | value[1];
	if (was <= walk->most)
		return;
	is = walk->most;
	value[0] = is >> 8;
	value[1] = is;
	was = odd ? __builtin_bswap16(was) : was;
	is = odd ? __builtin_bswap16(is) : is;
	walk->change += (__u16)~bpf_htons(was) + bpf_htons(is);
}

static long mss_step(__u32 i, struct mss_walk *walk)
{
	__u8 *kind = packet_at(walk->ctx, walk->offset, 1);
	__u8 *length = packet_at(walk->ctx, walk->offset + 1, 1);
	__u32 size = 1;

	if (!walk->left || !kind || *kind == OPTION_END)
		return 1;
	if (*kind != OPTION_NOP) {
		if (!length || walk->left < 2 || *length < 2 || *length > walk->left)
			return 1;
		size = *length;
		if (*kind == TCP_OPTION_MSS && size == TCP_OPTION_MSS_SIZE)
			mss_lower(walk, walk->offset + 2);
	}
	walk->offset += size;
	walk->left -= size;
	return 0;
}

/* The room for a segment in IP packets of a length; 0: that is not known, or there is none. */
static __always_inline __u32 segment_room(__u32 mtu, bool is_v6)
{
	__u32 headers = ip_header_size(is_v6) + sizeof(struct tcphdr);

	return mtu > headers ? mtu - headers : 0;
}

static __always_inline __u32 smaller_known(__u32 a, __u32 b)
{
	return !a || (b && b < a) ? b : a;
}

/* What fits on both sides where both directions pass here, else on the way to the backend. */
static __always_inline __u32 mss_that_fits(const struct packet *pkt, const struct backend *backend,
					   __u32 interface_limit, __u64 now)
{
	const struct flow_life *life = &pkt->flow.life;
	struct next_hop *hop = next_hop_of(backend);
	__u32 limit, tunnel = 0;

	if (translates(life->forward))
		return smaller_known(
			segment_room(interface_mtu(link_interface(pkt->flow.client_link)),
				     life->flags & FLOW_REQUEST_V6),
			segment_room(hop ? hop->mtu : 0, life->flags & FLOW_ANSWER_V6));
	limit = limit_out(pkt, backend, interface_limit, now);
	if (tunnels(life->forward))
		tunnel = tunnel_size(pkt, backend);
	return segment_room(limit > tunnel ? limit - tunnel : 0, pkt->is_v6);
}

/*
 * For SYNs of flows whose backend says so. A SYN without the option stands for RFC 9293's default. Verified by itself,
 * like parse().
 */
__noinline int mss_clamp(struct xdp_md *ctx, const struct packet *pkt,
			 const struct backend *backend, __u32 interface_limit, __u64 now)
{
	struct mss_walk walk = { .ctx = ctx };
	struct tcphdr *tcp;

	if (!pkt || !backend)
		return 0;
	tcp = packet_at(ctx, pkt->l4_offset, sizeof(*tcp));
	walk.most = backend->mss == MSS_AUTO ? mss_that_fits(pkt, backend, interface_limit, now) :
					       backend->mss;
	if (!tcp || !walk.most)
		return 0;
	walk.begin = pkt->l4_offset;
	walk.offset = pkt->l4_offset + sizeof(*tcp);
	walk.left = tcp->doff * 4 - sizeof(*tcp);
	bpf_loop(OPTIONS_MAX, mss_step, &walk, 0);
	tcp = packet_at(ctx, pkt->l4_offset, sizeof(*tcp));
	if (tcp && walk.change && !l4_is_partial(pkt, tcp->check))
		tcp->check = csum_update(tcp->check, walk.change);
	return 0;
}

#endif
