/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a rewritten packet leaves: toward a backend as the daemon says, toward a client as its packets came. */
#ifndef TINYLB_NEXT_HOP_H
#define TINYLB_NEXT_HOP_H

#include "config.h"
#include "maps.h"
#include "packet.h"

static __always_inline enum verdict send(struct xdp_md *ctx, struct packet *pkt, __u32 interface,
					 const __u8 *mac, const __u8 *source_mac)
{
	if (interface == ctx->ingress_ifindex || mac_is_zero(source_mac))
		__builtin_memcpy(pkt->eth->h_source, pkt->eth->h_dest, 6);
	else
		__builtin_memcpy(pkt->eth->h_source, source_mac, 6);
	__builtin_memcpy(pkt->eth->h_dest, mac, 6);
	if (interface == ctx->ingress_ifindex && !tx_by_redirect)
		return VERDICT_TX;
	bpf_redirect(interface, 0);
	return VERDICT_REDIRECT;
}

static __always_inline struct next_hop *next_hop_of(const struct backend *backend)
{
	__u32 id = backend->next_hop;
	struct next_hop *hop = bpf_map_lookup_elem(&next_hops, &id);

	return hop && hop->interface ? hop : NULL;
}

#endif
