/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a rewritten packet leaves: toward a backend as the daemon says, toward a client as its packets came. */
#ifndef TINYLB_NEXT_HOP_H
#define TINYLB_NEXT_HOP_H

#include "config.h"
#include "flow.h"
#include "link.h"
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
	to->interface = link_interface(flow->client_link);
	to->vlan = link_vlan(flow->client_link);
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

/* Packets leave with the interface's own MAC: the one that this packet, of a VLAN, was sent to, if it is the same link. */
static __always_inline void next_hop_complete(struct next_hop *hop, struct xdp_md *ctx,
					      const struct ethhdr *eth, __u16 vlan)
{
	bool same_vlan = (hop->vlan == vlan && vlan != VLAN_OTHER) || hop->vlan == VLAN_AS_IT_CAME;

	if ((hop->interface == ctx->ingress_ifindex && same_vlan) || mac_is_zero(hop->source_mac))
		mac_copy(hop->source_mac, eth->h_dest);
}

/* With the tags that it has. */
static __always_inline enum verdict send_as_tagged(struct xdp_md *ctx, const struct next_hop *to)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));

	if (!eth)
		return VERDICT_ABORTED;
	mac_copy(eth->h_dest, to->mac);
	mac_copy(eth->h_source, to->source_mac);
	return leave_by(ctx, to->interface);
}

/* The tags of whoever `to` says. */
static __always_inline struct link_tags tags_toward(const struct packet *pkt,
						    const struct next_hop *to)
{
	struct link_tags tags = {};
	struct flow_prefixes *prefixes;
	__u32 slot = pkt->slot;

	if (to->vlan == VLAN_AS_IT_CAME)
		return pkt->tags;
	if (to->vlan == VLAN_OTHER) {
		prefixes = bpf_map_lookup_elem(&all_flow_prefixes, &slot);
		if (prefixes)
			tags = prefixes->client_tags;
	} else if (to->vlan) {
		tags.tag[0] = ETH_P_8021Q << 16 | to->vlan;
	}
	return tags_with_priority(tags, &pkt->tags);
}

/* Sends the packet; dropped where there is no room before it for another tag. Verified by itself, like parse(). */
__noinline enum verdict send(struct xdp_md *ctx, struct packet *pkt, const struct next_hop *to)
{
	struct link_tags tags;

	if (!pkt || !to)
		return VERDICT_ABORTED;
	tags = tags_toward(pkt, to);
	if ((tags.tag[0] != pkt->tags.tag[0] || tags.tag[1] != pkt->tags.tag[1]) &&
	    !tags_replace(ctx, pkt, &tags))
		return leave(pkt, VERDICT_DROP, REASON_TOO_BIG);
	return send_as_tagged(ctx, to);
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
