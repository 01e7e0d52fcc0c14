/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a rewritten packet leaves: toward a backend as the daemon says, toward a client as its packets came. */
#ifndef TINYLB_NEXT_HOP_H
#define TINYLB_NEXT_HOP_H

#include "config.h"
#include "flow.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct next_hop *next_hop_of(const struct backend *backend)
{
	__u32 id = backend->next_hop;
	struct next_hop *hop = bpf_map_lookup_elem(&next_hops, &id);

	return hop && hop->interface ? hop : NULL;
}

static __always_inline void next_hop_to_client(const struct flow *flow, struct next_hop *to)
{
	to->interface = flow->client_interface;
	mac_copy(to->mac, flow->macs.client);
	mac_copy(to->source_mac, flow->macs.local);
}

static __always_inline enum verdict leaving_by(struct xdp_md *ctx, __u32 interface)
{
	return interface == ctx->ingress_ifindex && !tx_by_redirect ? VERDICT_TX : VERDICT_REDIRECT;
}

static __always_inline enum verdict leave_by(struct xdp_md *ctx, __u32 interface)
{
	enum verdict verdict = leaving_by(ctx, interface);

	if (verdict == VERDICT_REDIRECT)
		bpf_redirect(interface, 0);
	return verdict;
}

/* Packets leave with the interface's own MAC: the one that this packet was sent to, if it is the same interface. */
static __always_inline void next_hop_complete(struct next_hop *hop, struct xdp_md *ctx,
					      const struct ethhdr *eth)
{
	if (hop->interface == ctx->ingress_ifindex || mac_is_zero(hop->source_mac))
		mac_copy(hop->source_mac, eth->h_dest);
}

static __always_inline enum verdict send(struct xdp_md *ctx, const struct next_hop *to)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));

	if (!eth)
		return VERDICT_ABORTED;
	mac_copy(eth->h_dest, to->mac);
	mac_copy(eth->h_source, to->source_mac);
	return leave_by(ctx, to->interface);
}

/* To whoever it came from. */
static __always_inline enum verdict send_back(struct xdp_md *ctx)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct ethhdr swapped;

	if (!eth)
		return VERDICT_ABORTED;
	mac_copy(swapped.h_dest, eth->h_source);
	mac_copy(swapped.h_source, eth->h_dest);
	swapped.h_proto = eth->h_proto;
	*eth = swapped;
	return leave_by(ctx, ctx->ingress_ifindex);
}

#endif
