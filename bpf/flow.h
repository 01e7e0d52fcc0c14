/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage 2: known flows, and the table that holds them. A flow lies in one slot
 * of `flows` and is found by either of its tuples through `flow_index`. Slots
 * are handed out round the table, so the next one is the longest in use:
 * whatever has expired is cleared when a new flow comes by, without a daemon.
 */
#ifndef TINYLB_FLOW_H
#define TINYLB_FLOW_H

#include "clock.h"
#include "maps.h"
#include "packet.h"

/* Addresses are rewritten, and the backend's answers pass here. */
static __always_inline bool translates(enum forward_mode forward)
{
	return forward == FORWARD_NAT || forward == FORWARD_DNAT;
}

static __always_inline enum flow_phase flow_phase(__u8 protocol, enum flow_flags flags)
{
	if (protocol == IPPROTO_UDP)
		return flags & FLOW_CONFIRMED ? PHASE_UDP_STREAM : PHASE_UDP_UNCONFIRMED;
	if (flags & FLOW_RESET || (flags & FLOW_FIN_CLIENT && flags & FLOW_FIN_BACKEND))
		return PHASE_TCP_CLOSED;
	if (!(flags & FLOW_CONFIRMED))
		return PHASE_TCP_UNCONFIRMED;
	if (flags & (FLOW_FIN_CLIENT | FLOW_FIN_BACKEND))
		return PHASE_TCP_HALF_CLOSED;
	return PHASE_TCP_ESTABLISHED;
}

static __always_inline bool flow_expired(const struct flow *flow, __u64 now)
{
	__u32 zero = 0, phase = flow->phase;
	struct settings *settings = bpf_map_lookup_elem(&all_settings, &zero);

	if (!settings || phase >= PHASE_COUNT)
		return false;
	/* signed: another CPU may have seen it later than our `now` */
	return (__s64)(now - flow->last_seen) > (__s64)settings->timeout[phase];
}

/* The best flow to give up that a search has seen: of those in the last phase the oldest. */
struct victim {
	__u64 last_seen;
	__u32 slot;
	__u32 phase; /* 0: none seen */
};

static __always_inline bool victim_consider(struct victim *victim, const struct flow *flow,
					    __u32 slot)
{
	__u32 phase = flow->phase;

	if (phase < PHASE_UDP_STREAM || phase < victim->phase ||
	    (phase == victim->phase && (__s64)(flow->last_seen - victim->last_seen) >= 0))
		return false;
	victim->phase = phase;
	victim->slot = slot;
	victim->last_seen = flow->last_seen;
	return true;
}

static __always_inline enum flow_state flow_state(const struct flow *flow)
{
	return *(const volatile enum flow_state *)&flow->state;
}

static __always_inline bool flow_claim(struct flow *flow, enum flow_state from)
{
	return __sync_val_compare_and_swap(&flow->state, from, FLOW_BUSY) == from;
}

static __always_inline void flow_unlink(const struct flow *flow)
{
	bpf_map_delete_elem(&flow_index, &flow->tuple[FROM_CLIENT]);
	if (translates(flow->forward))
		bpf_map_delete_elem(&flow_index, &flow->tuple[FROM_BACKEND]);
}

/* Forgets a flow; its port is free at once. False: another CPU was first. */
static __always_inline bool flow_release(struct flow *flow)
{
	if (!flow_claim(flow, FLOW_LIVE))
		return false;
	flow_unlink(flow);
	__atomic_exchange_n(&flow->state, FLOW_FREE, __ATOMIC_SEQ_CST);
	return true;
}

static __always_inline const struct tuple *flow_tuple(const struct flow *flow, __u32 direction)
{
	asm volatile("" : "+r"(direction)); /* or the verifier does not see the bound below */
	return &flow->tuple[direction & 1];
}

static __always_inline struct flow *flow_find(struct packet *pkt, __u64 now)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, &pkt->tuple);
	struct flow *flow;
	__u32 slot;

	if (!ref)
		return NULL;
	slot = ref->slot;
	pkt->direction = ref->direction;
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow || flow_state(flow) != FLOW_LIVE ||
	    !tuple_equal(flow_tuple(flow, pkt->direction), &pkt->tuple))
		return NULL; /* being cleared by another CPU */
	if (flow_expired(flow, now)) {
		flow_release(flow);
		return NULL;
	}
	return flow;
}

/* A TCP segment that can begin a connection, or any UDP datagram. */
static __always_inline bool opens_flow(const struct packet *pkt)
{
	return pkt->tuple.protocol == IPPROTO_UDP ||
	       (pkt->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline struct backend *flow_backend(const struct flow *flow)
{
	__u32 id = flow->backend;
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->service && backend->generation == flow->backend_generation ?
		       backend :
		       NULL;
}

/* The client starts anew from the same port: after a close, or because its backend is gone. */
static __always_inline bool flow_superseded(const struct packet *pkt, const struct flow *flow)
{
	return pkt->direction == FROM_CLIENT && !pkt->flaw && opens_flow(pkt) &&
	       (flow->phase == PHASE_TCP_CLOSED || !flow_backend(flow));
}

/* The packet ends the connection, or one direction of it. */
static __always_inline enum flow_flags flow_ends(const struct packet *pkt)
{
	enum flow_flags flags = 0;

	if (pkt->tcp_flags & TCP_FIN)
		flags |= pkt->direction == FROM_CLIENT ? FLOW_FIN_CLIENT : FLOW_FIN_BACKEND;
	if (pkt->tcp_flags & TCP_RST)
		flags |= FLOW_RESET;
	return flags;
}

/* What this packet says of the connection's life (RFC 9293, 3.3.2, seen from the middle). */
static __always_inline void flow_track(struct flow *flow, const struct packet *pkt, __u64 now)
{
	enum flow_flags flags = flow->flags | flow_ends(pkt);

	if (pkt->direction == FROM_BACKEND)
		flags |= FLOW_ANSWERED;
	else if ((flags & FLOW_ANSWERED || !translates(flow->forward)) &&
		 !(pkt->tcp_flags & TCP_SYN))
		flags |= FLOW_CONFIRMED;
	if (flow->flags != flags) {
		flow->flags = flags;
		flow->phase = flow_phase(pkt->tuple.protocol, flags);
	}
	if (flow->last_seen != now)
		flow->last_seen = now;
}

/* Clients move: a router fails over, a cable is changed. */
static __always_inline void flow_learn(struct flow *flow, const struct ethhdr *eth, __u32 interface)
{
	if (flow->client_interface != interface)
		flow->client_interface = interface;
	if (__builtin_memcmp(flow->client_mac, eth->h_source, 6))
		__builtin_memcpy(flow->client_mac, eth->h_source, 6);
	if (__builtin_memcmp(flow->local_mac, eth->h_dest, 6))
		__builtin_memcpy(flow->local_mac, eth->h_dest, 6);
}

/* Slots looked at while the table is known to be full; smaller tables are always searched whole. */
#define SLOT_WINDOW 64
/* The outcome of a whole search is believed for so long per slot: some ten times what it took. */
#define SLOT_RETRY_NS 500ULL
#define SLOTS_MAX (8 * 1024 * 1024) /* more steps bpf_loop() does not take */

#define NO_SLOT 0xffffffff /* no flow lies there */

struct slot_search {
	__u64 now;
	__u64 start;
	struct victim victim;
	__u32 slot;
	bool found;
};

/* Its time is over, or its backend is gone: room for whoever needs it. */
static __always_inline bool flow_is_dead(const struct flow *flow, __u64 now)
{
	return flow_expired(flow, now) || !flow_backend(flow);
}

static long slot_step(__u32 i, struct slot_search *search)
{
	__u32 slot = (search->start + i) % flow_slots;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (!flow)
		return 1;
	if (flow_state(flow) == FLOW_LIVE && flow_is_dead(flow, search->now))
		flow_release(flow);
	if (flow_state(flow) == FLOW_FREE && flow_claim(flow, FLOW_FREE)) {
		search->slot = slot;
		search->found = true;
		return 1;
	}
	if (flow_state(flow) == FLOW_LIVE)
		victim_consider(&search->victim, flow, slot);
	return 0;
}

/* A slot for a new flow, FLOW_BUSY and ours alone; NO_SLOT when all are needed. Verified by itself, like parse(). */
__noinline __u32 slot_take(__u64 now)
{
	struct slot_search search = { .now = now };
	__u32 zero = 0, slots = flow_slots < SLOTS_MAX ? flow_slots : SLOTS_MAX, slot;
	struct flow_cursor *cursor;
	struct flow *flow;
	bool full;

	cursor = bpf_map_lookup_elem(&flow_cursors, &zero);
	if (!cursor)
		return NO_SLOT;
	full = slots > SLOT_WINDOW && now < cursor->full_until;
	search.start = __sync_fetch_and_add(&cursor->slot, 1);
	bpf_loop(full ? SLOT_WINDOW : slots, slot_step, &search, 0);
	if (search.found) {
		if (search.slot != search.start % flow_slots)
			cursor->slot = search.slot + 1; /* past those in use, for the next one */
		return search.slot;
	}
	if (!full)
		cursor->full_until = now + slots * SLOT_RETRY_NS;
	cursor->slot = search.start + SLOT_WINDOW;
	if (!search.victim.phase)
		return NO_SLOT;
	slot = search.victim.slot;
	flow = bpf_map_lookup_elem(&flows, &slot);
	return flow && flow_release(flow) && flow_claim(flow, FLOW_FREE) ? slot : NO_SLOT;
}

static __always_inline void slot_give_back(__u32 slot)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (flow)
		__atomic_exchange_n(&flow->state, FLOW_FREE, __ATOMIC_SEQ_CST);
}

#endif
