/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Source ports for nat. A port is taken when the flow table holds the tuple that
 * the backend's answers would carry, so it serves every other backend
 * address:port at the same time. Search goes round the pool from where the last
 * one ended: what it meets first has been in use longest.
 */
#ifndef TINYLB_SNAT_H
#define TINYLB_SNAT_H

#include "flow.h"
#include "lock.h"
#include "service.h"

/* Ports looked at while a pool is known to be full; smaller pools are always searched whole. */
#define PORT_WINDOW 128
/* While it is: after so many, a flow as dispensable as the best of the whole search will do. */
#define PORT_WINDOW_SHORT 16
/* The outcome of a whole search is believed for so long per port: some ten times what it took. */
#define PORT_RETRY_NS 2000ULL
#define PORT_POOL_MAX (64 * 65536)

static __always_inline bool port_name(struct packet *pkt, __u32 at)
{
	struct port_search *search = &pkt->search;
	__u32 index = search->snat_first + at / search->ports;
	struct snat_address *source = bpf_map_lookup_elem(&snat_addresses, &index);
	struct tuple *answer = &pkt->other;

	if (!source)
		return false;
	search->at = at;
	answer->dst = source->address;
	answer->dport = bpf_htons(search->port_first + at % search->ports);
	/* a backend that is a client of a service must not be taken for answering */
	if (tuple_equal(answer, &pkt->tuple))
		return false;
	return !source->is_vip || !service_on_port(&answer->dst, answer->dport, answer->protocol);
}

/*
 * Enters the tuple of a new flow's answers, which leads nowhere yet, and returns its place; NO_SLOT
 * if it is taken, by *owner, or by somebody who comes or goes just now: SLOT_PENDING. Verified by
 * itself, like parse().
 */
__noinline __u32 answer_take(const struct tuple *answer, __u32 *owner)
{
	__u32 *lock, seen, place;
	bool taken = false;
	__u64 hash;

	if (!answer || !owner)
		return NO_SLOT;
	*owner = SLOT_PENDING;
	hash = hash_tuple(answer);
	buckets_touch(FROM_BACKEND, hash);
	answer_touch(hash);
	if (history_has(FROM_CLIENT, &answer->dst))
		buckets_touch(FROM_CLIENT, hash);
	history_note(FROM_BACKEND, &answer->dst);
	lock = lock_of(hash);
	if (!lock)
		return NO_SLOT;
#pragma unroll
	for (int i = 0; i < LOCK_TRIES && !taken; i++) {
		seen = lock_read(lock);
		*owner = tuple_owner(answer, hash);
		if (*owner != NO_SLOT)
			return NO_SLOT;
		taken = lock_take(lock, seen);
	}
	*owner = SLOT_PENDING;
	if (!taken)
		return NO_SLOT;
	place = place_claim(FROM_BACKEND, hash);
	if (place != NO_SLOT)
		answer_set(place, answer_pending(hash));
	lock_release(lock);
	return place;
}

/* The same, once more if the owner's time is over. */
static __always_inline __u32 answer_take_from_dead(const struct tuple *answer, __u64 now,
						   __u32 *owner)
{
	__u32 place = answer_take(answer, owner);
	struct flow_life life;
	struct flow *flow;

	if (place != NO_SLOT || *owner >= SLOT_PENDING)
		return place;
	flow = flow_at(*owner);
	if (!flow)
		return NO_SLOT;
	life = flow_life(flow);
	if (life.phase && flow_is_dead(flow, now) && flow_release(*owner, life))
		return answer_take(answer, owner);
	return NO_SLOT;
}

struct port_step {
	struct packet *pkt;
};

static long port_step(__u32 i, struct port_step *step)
{
	struct packet *pkt = step->pkt;
	struct port_search *search = &pkt->search;
	struct flow *flow;
	__u32 owner;

	if (!search->ports || !search->pool || !port_name(pkt, (search->start + i) % search->pool))
		return 0;
	search->place = answer_take_from_dead(&pkt->other, search->now, &owner);
	if (search->place != NO_SLOT)
		return 1;
	if (owner >= SLOT_PENDING)
		return 0;
	flow = flow_at(owner);
	if (flow && flow_life(flow).phase && victim_consider(&search->victim, flow, owner))
		search->victim_at = search->at;
	return i >= PORT_WINDOW_SHORT && search->victim.life.phase >= search->enough;
}

static __always_inline __u32 port_take_over(struct packet *pkt)
{
	struct port_search *search = &pkt->search;
	__u32 owner;

	if (!search->victim.life.phase || !search->ports)
		return NO_SLOT;
	port_name(pkt, search->victim_at);
	return flow_release(search->victim.slot, search->victim.life) ?
		       answer_take(&pkt->other, &owner) :
		       NO_SLOT;
}

static __always_inline __be16 backend_port(const struct backend *backend, const struct packet *pkt)
{
	return backend->port ? backend->port : pkt->tuple.dport;
}

/* Whom a new flow's answers come from; to whom is still to be said. */
static __always_inline void answer_begin(struct packet *pkt, const struct backend *backend)
{
	__builtin_memset(&pkt->other, 0, sizeof(pkt->other));
	pkt->other.src = backend->address;
	pkt->other.sport = backend_port(backend, pkt);
	pkt->other.protocol = pkt->tuple.protocol;
}

/* Of a backend and a protocol: TCP's ports and UDP's are apart. */
static __always_inline struct port_pool *port_pool_of(__u32 backend_id, __u8 protocol)
{
	__u32 index = 2 * backend_id + (protocol == IPPROTO_UDP);

	return bpf_map_lookup_elem(&port_pools, &index);
}

/* Looks at all ports, or where a moment ago none was free, at those that come next. */
static __always_inline __u32 snat_search(struct packet *pkt, struct port_pool *pool)
{
	struct port_search *search = &pkt->search;
	struct port_step step = { .pkt = pkt };
	bool full = search->pool > PORT_WINDOW && search->now < pool->full_until;

	search->enough = full && pool->victim ? pool->victim : PHASE_COUNT;
	if (!port_step(0, &step) && search->pool > 1) { /* nearly always it is the first */
		search->start++;
		bpf_loop((full ? PORT_WINDOW : search->pool) - 1, port_step, &step, 0);
	}
	if (search->place != NO_SLOT)
		return search->place;
	if (!full) {
		pool->full_until = search->now + search->pool * PORT_RETRY_NS;
		pool->victim = search->victim.life.phase;
	}
	return port_take_over(pkt);
}

/*
 * Finds a port for a flow: pkt->other becomes the tuple of its answers, which is entered, leading
 * nowhere yet. Returns its place; NO_SLOT: every port is needed.
 */
static __always_inline __u32 snat_choose(struct packet *pkt, const struct backend *backend,
					 __u64 now)
{
	struct port_pool *pool = port_pool_of(pkt->backend, pkt->tuple.protocol);
	struct port_search *search = &pkt->search;
	__u32 place;

	if (!pool)
		return NO_SLOT;
	answer_begin(pkt, backend);
	search->now = now;
	search->place = NO_SLOT;
	search->snat_first = backend->snat_first;
	search->port_first = backend->snat_port_first;
	search->ports = backend->snat_port_last - backend->snat_port_first + 1;
	search->pool = search->ports * backend->snat_count;
	if (search->pool > PORT_POOL_MAX)
		search->pool = PORT_POOL_MAX;
	search->start = pool->cursor;
	search->victim.life.phase = 0;
	place = snat_search(pkt, pool);
	pool->cursor = place != NO_SLOT ? search->at + 1 : search->start + PORT_WINDOW;
	return place;
}

#endif
