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

static __always_inline bool next_hop_to_backend(const struct flow *flow, struct next_hop *to)
{
	struct backend *backend = flow_backend(flow);
	struct next_hop *hop = backend ? next_hop_of(backend) : NULL;

	if (!hop)
		return false;
	*to = *hop;
	return true;
}

static __always_inline void next_hop_to_client(const struct flow *flow, struct next_hop *to)
{
	to->interface = flow->client_interface;
	__builtin_memcpy(to->mac, flow->client_mac, 6);
	__builtin_memcpy(to->source_mac, flow->local_mac, 6);
}

static __always_inline enum verdict send(struct xdp_md *ctx, struct packet *pkt,
					 const struct next_hop *to)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));

	if (!eth)
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	if (to->interface == ctx->ingress_ifindex || mac_is_zero(to->source_mac))
		__builtin_memcpy(eth->h_source, eth->h_dest, 6);
	else
		__builtin_memcpy(eth->h_source, to->source_mac, 6);
	__builtin_memcpy(eth->h_dest, to->mac, 6);
	if (to->interface == ctx->ingress_ifindex && !tx_by_redirect)
		return VERDICT_TX;
	bpf_redirect(to->interface, 0);
	return VERDICT_REDIRECT;
}

#endif
