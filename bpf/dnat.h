/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * forward: dnat. The client's address stays in the packet, so the answers' tuple
 * is backend -> client, and the source is rewritten only where that cannot work.
 */
#ifndef TINYLB_DNAT_H
#define TINYLB_DNAT_H

#include "next_hop.h"
#include "snat.h"

/* The backend would answer the client without us: it is the client, or they share a link. */
static __always_inline bool client_is_near(const struct packet *pkt, const struct backend *backend)
{
	struct near_client key = {
		.bits = 8 * (sizeof(key) - sizeof(key.bits)),
		.service = pkt->service,
		.address = pkt->tuple.src,
	};
	__u32 *link = bpf_map_lookup_elem(&near_clients, &key);
	struct next_hop *hop = next_hop_of(backend);

	return link && (!*link || (hop && *link == link_of(hop->interface, hop->vlan)));
}

/* NO_SLOT: another flow's answers look the same, as of a client with one port to two VIPs. */
static __always_inline __u32 dnat_choose(struct packet *pkt, const struct backend *backend,
					 __u64 now)
{
	__u32 owner;

	answer_begin(pkt, backend);
	pkt->other.dst = pkt->tuple.src;
	pkt->other.dport = pkt->tuple.sport;
	return answer_take_from_dead(&pkt->other, now, &owner);
}

#endif
