/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 5, second half: a new flow gets its answers' tuple, its slot, and can be found. */
#ifndef TINYLB_OPEN_H
#define TINYLB_OPEN_H

#include "dnat.h"
#include "flow.h"
#include "snat.h"

/* Makes the flow findable. False: another CPU was first with this client tuple. */
static __always_inline bool flow_enter(struct packet *pkt, struct flow *flow, __u32 slot,
				       const struct backend *backend, __u64 now)
{
	struct flow_ref request = { .slot = slot, .direction = FROM_CLIENT };
	struct flow_ref answer = { .slot = slot, .direction = FROM_BACKEND };

	flow->last_seen = now;
	flow->service = pkt->service;
	flow->backend = pkt->backend;
	flow->backend_generation = backend->generation;
	flow->client_interface = 0;
	flow->forward = pkt->forward;
	flow->flags = flow_ends(pkt);
	flow->phase = flow_phase(pkt->tuple.protocol, flow->flags);
	if (bpf_map_update_elem(&flow_index, &flow->tuple[FROM_CLIENT], &request, BPF_NOEXIST))
		return false;
	if (translates(flow->forward) &&
	    bpf_map_update_elem(&flow_index, &flow->tuple[FROM_BACKEND], &answer, BPF_EXIST)) {
		bpf_map_delete_elem(&flow_index, &flow->tuple[FROM_CLIENT]);
		return false;
	}
	__atomic_exchange_n(&flow->state, FLOW_LIVE, __ATOMIC_SEQ_CST);
	return true;
}

/*
 * The tuple of the flow's answers. Where they do not pass here it only says who
 * the backend is. False, and pkt->reason set: it has none.
 */
static __always_inline bool answer_choose(struct packet *pkt, const struct tuple *request,
					  const struct backend *backend, __u64 now,
					  struct tuple *answer, __u32 *slot)
{
	if (!translates(pkt->forward)) {
		*answer = (struct tuple){
			.src = backend->address,
			.sport = backend_port(backend, pkt),
			.protocol = pkt->tuple.protocol,
		};
		return true;
	}
	if (pkt->forward == FORWARD_DNAT && !client_is_near(pkt, backend) &&
	    dnat_choose(pkt, backend, now, answer))
		return true;
	pkt->source_nat = true;
	pkt->reason = REASON_SNAT_EXHAUSTED;
	return snat_choose(pkt, request, backend, now, answer, slot);
}

static __always_inline void answer_give_back(const struct packet *pkt, const struct tuple *answer)
{
	if (translates(pkt->forward))
		bpf_map_delete_elem(&flow_index, answer);
}

/*
 * Stores a new flow to `backend` and returns its slot; NO_SLOT with pkt->reason
 * set when there is no room for it. The port comes first: where there is none,
 * no other flow must have lost its slot. Verified by itself, like parse().
 */
__noinline __u32 flow_open(struct packet *pkt, const struct backend *backend, __u64 now)
{
	struct tuple request, answer;
	__u32 slot = NO_SLOT;
	struct flow *flow;

	if (!pkt || !backend)
		return NO_SLOT;
	request = pkt->tuple; /* as a key it must lie on the stack or in a map (Linux 6.1) */
	if (!answer_choose(pkt, &request, backend, now, &answer, &slot)) {
		slot_give_back(slot);
		return NO_SLOT;
	}
	pkt->reason = REASON_FLOW_TABLE_FULL;
	if (slot == NO_SLOT)
		slot = slot_take(now);
	if (slot == NO_SLOT) {
		answer_give_back(pkt, &answer);
		return NO_SLOT;
	}
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow)
		return NO_SLOT;
	flow->tuple[FROM_CLIENT] = request;
	flow->tuple[FROM_BACKEND] = answer;
	if (!flow_enter(pkt, flow, slot, backend, now)) {
		answer_give_back(pkt, &answer);
		slot_give_back(slot);
		return NO_SLOT;
	}
	return slot;
}

#endif
