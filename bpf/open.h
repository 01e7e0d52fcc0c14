/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 5, second half: a new flow gets its answers' tuple, its slot, and can be found. */
#ifndef TINYLB_OPEN_H
#define TINYLB_OPEN_H

#include "csum.h"
#include "dnat.h"
#include "flow.h"
#include "lock.h"
#include "snat.h"

/*
 * Enters the tuple of a new flow's answers, which becomes pkt->other, and returns its place. NO_SLOT, and
 * pkt->reason set: there is none. Verified by itself, like parse().
 */
__noinline __u32 answer_choose(struct packet *pkt, const struct backend *backend, __u64 now)
{
	__u32 place;

	if (!pkt || !backend)
		return NO_SLOT;
	if (pkt->forward == FORWARD_DNAT && !client_is_near(pkt, backend)) {
		place = dnat_choose(pkt, backend, now);
		if (place != NO_SLOT)
			return place;
	}
	pkt->source_nat = true;
	pkt->reason = REASON_SNAT_EXHAUSTED;
	return snat_choose(pkt, backend, now);
}

static __always_inline void ends_take(struct flow_ends *ends, const struct tuple *t)
{
	ends->src = t->src.word[3];
	ends->dst = t->dst.word[3];
	ends->sport = t->sport;
	ends->dport = t->dport;
}

static __always_inline void prefixes_take(__u32 slot, const struct tuple *request,
					  const struct tuple *answer)
{
	struct flow_prefixes *prefixes = bpf_map_lookup_elem(&all_flow_prefixes, &slot);

	if (!prefixes)
		return;
	prefix_take(&prefixes->request_src, &request->src);
	prefix_take(&prefixes->request_dst, &request->dst);
	prefix_take(&prefixes->answer_src, &answer->src);
	prefix_take(&prefixes->answer_dst, &answer->dst);
	prefixes->change =
		csum_fold(csum_addr_inverse(&request->src) + csum_addr_inverse(&request->dst) +
			  csum_addr(&answer->src) + csum_addr(&answer->dst));
}

/*
 * Describes the flow in its slot, which is ours alone. From its last publish() on it can be found; before its answers'
 * place leads to it, it says what they are, for who looks for them meanwhile.
 */
static __always_inline bool flow_fill(struct xdp_md *ctx, struct packet *pkt, __u32 slot,
				      const struct backend *backend, __u64 now)
{
	const struct tuple *answer = &pkt->other;
	struct flow *flow = flow_at(slot), *filled = &pkt->flow;
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	union life_word is;

	if (!flow || !eth)
		return false;
	is.life = (struct flow_life){
		.turn = flow->life.turn,
		.flags = flow_ends(pkt) | (pkt->is_v6 ? FLOW_REQUEST_V6 : 0) |
			 (addr_is_v4(&answer->src) ? 0 : FLOW_ANSWER_V6),
		.forward = pkt->forward,
		.protocol = pkt->tuple.protocol,
	};
	filled->life = is.life; /* free, still */
	filled->backend = pkt->backend;
	filled->backend_generation = backend->generation;
	__builtin_memcpy(&filled->macs, eth, sizeof(filled->macs));
	filled->client_link = link_of(ctx->ingress_ifindex, pkt->vlan);
	ends_take(&filled->request, &pkt->tuple);
	ends_take(&filled->answer, answer);
	*flow = *filled;
	if (flow_is_wide(is.life.flags))
		prefixes_take(slot, &pkt->tuple, answer);
	if (pkt->vlan == VLAN_OTHER)
		client_tags_take(pkt);
	publish(&flow->last_seen, now);
	if (pkt->place != NO_SLOT)
		answer_set(pkt->place, slot + 1);
	is.life.phase = flow_phase(is.life);
	if (flow_counts_phase(is.life.phase)) /* before anybody can end it */
		flow_count_up(filled->backend, filled->backend_generation, pkt->service);
	publish(life_of(flow), is.word);
	filled->life = is.life;
	return true;
}

/*
 * Takes the lock of the packet's tuple; it is known to have no flow. False: another
 * CPU has opened one, pkt->slot, or whoever holds the lock does not let go of it.
 */
static __always_inline bool flow_lock(struct packet *pkt, __u32 *lock)
{
	__u32 seen;

	if (lock_take(lock, pkt->lock_seen))
		return true;
#pragma unroll
	for (int i = 0; i < LOCK_TRIES; i++) {
		seen = lock_read(lock);
		pkt->slot = tuple_owner(&pkt->tuple, pkt->hash);
		if (pkt->slot != NO_SLOT)
			return false;
		if (lock_take(lock, seen))
			return true;
	}
	return false;
}

/* Puts the flow into pkt->slot; NO_SLOT where all are needed. */
static __always_inline bool flow_enter(struct xdp_md *ctx, struct packet *pkt,
				       const struct backend *backend, __u64 now)
{
	pkt->slot = place_claim(FROM_CLIENT, pkt->hash);
	if (pkt->slot == NO_SLOT)
		pkt->slot = slot_take_over(pkt->hash, now);
	return pkt->slot != NO_SLOT && flow_fill(ctx, pkt, pkt->slot, backend, now);
}

enum opened {
	OPENED_NOTHING, /* for pkt->reason */
	OPENED_NEW,
	OPENED_ALREADY, /* by another CPU, meanwhile */
};

/*
 * Stores a new flow to `backend` in pkt->slot. pkt->place is that of its answers; NO_SLOT: they do not pass here,
 * and pkt->other only says who the backend is. Verified by itself, like parse().
 */
__noinline enum opened flow_open(struct xdp_md *ctx, struct packet *pkt,
				 const struct backend *backend, __u64 now)
{
	bool is_new = false;
	__u32 *lock;

	if (!pkt || !backend)
		return OPENED_NOTHING;
	pkt->slot = NO_SLOT;
	history_note(FROM_CLIENT, &pkt->tuple.dst);
	lock = lock_of(pkt->hash);
	pkt->reason = REASON_FLOW_TABLE_BUSY;
	if (lock && flow_lock(pkt, lock)) {
		pkt->reason = REASON_FLOW_TABLE_FULL;
		is_new = flow_enter(ctx, pkt, backend, now);
		lock_release(lock);
	}
	if (is_new)
		return OPENED_NEW;
	if (pkt->place != NO_SLOT)
		answer_give_back(pkt->place);
	if (pkt->slot >= SLOT_PENDING)
		return OPENED_NOTHING;
	pkt->reason = REASON_FLOW_TABLE_BUSY;
	return flow_read(pkt) ? OPENED_ALREADY : OPENED_NOTHING;
}

#endif
