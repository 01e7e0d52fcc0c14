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
	__u32 *interface = bpf_map_lookup_elem(&near_clients, &key);
	struct next_hop *hop = next_hop_of(backend);

	return interface && (!*interface || (hop && *interface == hop->interface));
}

/* False: another flow's answers look the same, as of a client with one port to two VIPs. */
static __always_inline bool dnat_choose(const struct packet *pkt, const struct backend *backend,
					__u64 now, struct tuple *answer)
{
	struct flow_ref *ref;
	struct flow *flow;
	__u32 slot;

	*answer = (struct tuple){
		.src = backend->address,
		.dst = pkt->tuple.src,
		.sport = backend_port(backend, pkt),
		.dport = pkt->tuple.sport,
		.protocol = pkt->tuple.protocol,
	};
	ref = bpf_map_lookup_elem(&flow_index, answer);
	if (ref) {
		slot = ref->slot;
		flow = bpf_map_lookup_elem(&flows, &slot);
		if (!flow || flow_state(flow) != FLOW_LIVE || !flow_is_dead(flow, now) ||
		    !flow_release(flow))
			return false;
	}
	return answer_take(answer);
}

#endif
