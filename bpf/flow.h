/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage 2: known flows, and the table that holds them. A flow lies in `flows` where
 * its request's tuple says; its answers find it by `answer_slots`. Whatever has expired is cleared
 * when a new flow needs the place, without a daemon. ARCHITECTURE.md, "The flow table", argues
 * why CPUs do not get in each other's way.
 */
#ifndef TINYLB_FLOW_H
#define TINYLB_FLOW_H

#include "bucket.h"
#include "clock.h"
#include "count.h"
#include "hash.h"
#include "link.h"
#include "lock.h"
#include "maps.h"
#include "packet.h"

/* Addresses are rewritten, and the backend's answers pass here. */
static __always_inline bool translates(enum forward_mode forward)
{
	return forward == FORWARD_NAT || forward == FORWARD_DNAT;
}

/* A key must be on the stack for Linux 6.1, as the copy here is. */
static __always_inline struct flow *flow_at(__u32 slot)
{
	return bpf_map_lookup_elem(&flows, &slot);
}

/* A flow has IPv6 in one of its tuples. */
static __always_inline bool flow_is_wide(enum flow_flags flags)
{
	return flags & (FLOW_REQUEST_V6 | FLOW_ANSWER_V6);
}

/* Where the backend's packets do not pass, the client's FIN is all that is seen of a connection's end. */
static __always_inline enum flow_phase flow_phase(struct flow_life life)
{
	enum flow_flags flags = life.flags;

	if (life.protocol == IPPROTO_UDP)
		return flags & FLOW_CONFIRMED ? PHASE_UDP_STREAM : PHASE_UDP_UNCONFIRMED;
	if (flags & FLOW_FIN_CLIENT && !translates(life.forward))
		flags |= FLOW_FIN_BACKEND;
	if (flags & FLOW_RESET || (flags & FLOW_FIN_CLIENT && flags & FLOW_FIN_BACKEND))
		return PHASE_TCP_CLOSED;
	if (!(flags & FLOW_CONFIRMED))
		return PHASE_TCP_UNCONFIRMED;
	if (flags & (FLOW_FIN_CLIENT | FLOW_FIN_BACKEND))
		return PHASE_TCP_HALF_CLOSED;
	return PHASE_TCP_ESTABLISHED;
}

/* By the timeouts of its backend, or those for all where that is gone. */
static __always_inline bool flow_expired(const struct backend *backend, enum flow_phase phase,
					 __u64 last_seen, __u64 now)
{
	__u32 class = backend ? backend->timeouts : 0, index = phase;
	struct timeouts *timeouts = bpf_map_lookup_elem(&all_timeouts, &class);

	asm volatile("" : "+r"(index)); /* or the verifier does not see the bound below */
	if (!timeouts || index >= PHASE_COUNT)
		return false;
	/* signed: another CPU may have seen it later than our `now` */
	return (__s64)(now - last_seen) > (__s64)timeouts->of[index];
}

union life_word {
	struct flow_life life;
	__u64 word;
};

static __always_inline __u64 *life_of(struct flow *flow)
{
	return (__u64 *)&flow->life;
}

static __always_inline struct flow_life flow_life(const struct flow *flow)
{
	union life_word now = { .word = *(const volatile __u64 *)&flow->life };

	return now.life;
}

static __always_inline bool flow_life_change(struct flow *flow, struct flow_life was,
					     struct flow_life is)
{
	union life_word from = { .life = was }, to = { .life = is };

	return __sync_val_compare_and_swap(life_of(flow), from.word, to.word) == from.word;
}

static __always_inline bool ends_equal(const struct flow_ends *ends, const struct tuple *t)
{
	return ends->src == t->src.word[3] && ends->dst == t->dst.word[3] &&
	       ends->sport == t->sport && ends->dport == t->dport;
}

/* Has memory bring the slot where a flow most likely lies, or will, while there is other work. */
static __always_inline void flow_touch(__u64 hash)
{
	__u32 slot = first_place(first_bucket(FROM_CLIENT, hash), hash);
	struct flow *flow = flow_at(slot);

	if (flow)
		(void)*(volatile __u32 *)&flow->life.turn;
}

/* A live flow has this tuple in that direction. */
static __always_inline bool flow_has(__u32 slot, const struct tuple *t, enum direction direction)
{
	struct flow *flow = flow_at(slot);
	bool from_client = direction == FROM_CLIENT, is_v6;
	struct flow_prefixes *prefixes;
	struct flow_life life;

	if (!flow)
		return false;
	is_v6 = !addr_is_v4(&t->dst);
	life = flow_life(flow);
	if (!life.phase || life.protocol != t->protocol ||
	    !(life.flags & (from_client ? FLOW_REQUEST_V6 : FLOW_ANSWER_V6)) == is_v6 ||
	    !ends_equal(from_client ? &flow->request : &flow->answer, t) ||
	    (!from_client && !translates(life.forward)))
		return false;
	if (!is_v6)
		return true;
	prefixes = bpf_map_lookup_elem(&all_flow_prefixes, &slot);
	return prefixes &&
	       prefix_equal(from_client ? &prefixes->request_src : &prefixes->answer_src,
			    &t->src) &&
	       prefix_equal(from_client ? &prefixes->request_dst : &prefixes->answer_dst, &t->dst);
}

/*
 * An answer's place has the number of its flow's slot, plus one. Before that is known it has this bit and
 * more of the hash, so that nobody else takes the same tuple.
 */
#define ANSWER_PENDING 0x80000000

/* Somebody takes the tuple of an answer just now. */
#define SLOT_PENDING 0xfffffffe

static __always_inline __u32 answer_pending(__u64 hash)
{
	return ANSWER_PENDING | hash >> 33;
}

static __always_inline __u32 *answer_slot(__u32 place)
{
	__u32 index = place / BUCKET_PLACES;
	struct bucket_slots *slots = bpf_map_lookup_elem(&answer_slots, &index);

	return slots ? &slots->slot[bounded(place, BUCKET_PLACES)] : NULL;
}

/* As flow_touch(), of what an answer leads by. */
static __always_inline void answer_touch(__u64 hash)
{
	__u32 *at = answer_slot(first_place(first_bucket(FROM_BACKEND, hash), hash));

	if (at)
		(void)*(volatile __u32 *)at;
}

/* The flow that the place of a table belongs to; SLOT_PENDING: it has none yet; NO_SLOT: surely another hash's. */
static __always_inline __u32 slot_at(enum direction table, __u32 place, __u64 hash)
{
	__u32 *at, value;

	if (table == FROM_CLIENT)
		return place;
	at = answer_slot(place);
	value = at ? *(volatile __u32 *)at : 0;
	if (value & ANSWER_PENDING)
		return value == answer_pending(hash) ? SLOT_PENDING : NO_SLOT;
	return value - 1;
}

static __always_inline void answer_set(__u32 place, __u32 value)
{
	__u32 *at = answer_slot(place);

	if (at)
		*(volatile __u32 *)at = value;
}

/*
 * The slot that an answer's place leads to is being filled, or cleared, and the tuple is of that flow. To be asked
 * before flow_has(): a flow that comes is there from one moment to the next.
 */
static __always_inline bool answer_comes_or_goes(__u32 slot, const struct tuple *t)
{
	struct flow *flow = flow_at(slot);

	return flow && !flow_life(flow).phase && ends_equal(&flow->answer, t);
}

/* Of the places whose bits in a word match, the slot of the flow with this tuple; else as slot_find(). Verified by itself, like parse(). */
__noinline __u32 search_word(const struct tuple *tuple, __u64 hash, enum direction table,
			     __u32 place, __u64 matches)
{
	__u32 slot;

	if (!tuple)
		return NO_SLOT;
	for (int n = 0; n < WORD_PLACES && matches; n++) {
		slot = slot_at(table, place + lowest_part(matches), hash);
		if (table == FROM_BACKEND && answer_comes_or_goes(slot, tuple))
			slot = SLOT_PENDING;
		if (slot == SLOT_PENDING || flow_has(slot, tuple, table))
			return slot;
		matches &= matches - 1;
	}
	return NO_SLOT;
}

/* The same, of all its words. Verified by itself, like parse(). */
__noinline __u32 search_bucket(const struct tuple *tuple, __u64 hash, enum direction table,
			       __u32 index)
{
	struct bucket *bucket = bucket_at(table, index);
	__u64 matches;
	__u32 slot;

	if (!tuple || !bucket)
		return NO_SLOT;
	for (__u32 word = 0; word < BUCKET_WORDS; word++) {
		matches = word_matches(bucket_word(bucket, word), hash_tag(hash));
		if (!matches)
			continue;
		slot = search_word(tuple, hash, table, index * BUCKET_PLACES + word * WORD_PLACES,
				   matches);
		if (slot != NO_SLOT)
			return slot;
	}
	return NO_SLOT;
}

/* The live flow with this tuple in that direction; NO_SLOT, or SLOT_PENDING for an answer's. Verified by itself, like parse(). */
__noinline __u32 slot_find(const struct tuple *tuple, __u64 hash, enum direction table)
{
	__u32 first = first_bucket(table, hash), second = second_bucket(table, hash);
	struct bucket *one = bucket_at(table, first), *other = bucket_at(table, second);
	__u32 slot = NO_SLOT;

	if (!tuple || !one || !other)
		return NO_SLOT;
	if (bucket_may_have(one, hash_tag(hash)))
		slot = search_bucket(tuple, hash, table, first);
	if (slot == NO_SLOT && bucket_may_have(other, hash_tag(hash)))
		slot = search_bucket(tuple, hash, table, second);
	return slot;
}

/* The word of the filter that tells of the address, and its bit in there. */
static __always_inline __u64 *history_of(enum direction table, const struct addr *to, __u64 *bit)
{
	__u32 hash = addr_mix(to) * 0x9e3779b1 >> (32 - HISTORY_BITS), key = table;
	struct flow_history *history = bpf_map_lookup_elem(&flow_histories, &key);

	*bit = 1ULL << (hash & 63);
	return history ? &history->sent_to[hash >> 6] : NULL;
}

/* Some flow may have requests, or answers, that are sent to this address. */
static __always_inline bool history_has(enum direction table, const struct addr *to)
{
	__u64 bit, *word = history_of(table, to, &bit);

	return !word || *(volatile __u64 *)word & bit;
}

/* Before the first is entered. */
static __always_inline void history_note(enum direction table, const struct addr *to)
{
	__u64 bit, *word = history_of(table, to, &bit);

	if (word && !(*(volatile __u64 *)word & bit))
		__sync_fetch_and_or(word, bit);
}

/* Who has the tuple, in either direction; else as slot_find(). */
static __always_inline __u32 tuple_owner(const struct tuple *tuple, __u64 hash)
{
	__u32 slot = NO_SLOT;

	if (history_has(FROM_CLIENT, &tuple->dst))
		slot = slot_find(tuple, hash, FROM_CLIENT);
	if (slot == NO_SLOT && history_has(FROM_BACKEND, &tuple->dst))
		slot = slot_find(tuple, hash, FROM_BACKEND);
	return slot;
}

/* Verified by itself, like parse(). */
__noinline bool flow_tuple(const struct flow *flow, __u32 slot, enum direction direction,
			   struct tuple *tuple)
{
	const struct addr_prefix v4 = { .word = { 0, 0, bpf_htonl(0xffff) } };
	bool from_client = direction == FROM_CLIENT;
	const struct addr_prefix *src = &v4, *dst = &v4;
	struct flow_prefixes *prefixes;
	const struct flow_ends *ends;

	if (!flow || !tuple)
		return false;
	if (flow_is_wide(flow->life.flags)) {
		prefixes = bpf_map_lookup_elem(&all_flow_prefixes, &slot);
		if (!prefixes)
			return false;
		src = from_client ? &prefixes->request_src : &prefixes->answer_src;
		dst = from_client ? &prefixes->request_dst : &prefixes->answer_dst;
	}
	ends = from_client ? &flow->request : &flow->answer;
	*tuple = (struct tuple){
		.src = addr_join(src, ends->src),
		.dst = addr_join(dst, ends->dst),
		.sport = ends->sport,
		.dport = ends->dport,
		.protocol = flow->life.protocol,
	};
	return true;
}

struct answer_search {
	__u64 hash;
	__u32 bucket;
	__u32 slot;
	__u32 place; /* that leads there; NO_SLOT: none */
};

static long answer_step(__u32 i, struct answer_search *search)
{
	__u32 place = search->bucket * BUCKET_PLACES + i;

	if (slot_at(FROM_BACKEND, place, search->hash) != search->slot)
		return 0;
	search->place = place;
	return 1;
}

static __always_inline void answer_give_back(__u32 place)
{
	answer_set(place, 0);
	place_free(FROM_BACKEND, place);
}

/* A flow's answers lead to it no more. Verified by itself, like parse(). */
__noinline int answer_forget(const struct flow *flow, __u32 slot)
{
	struct answer_search search = { .slot = slot, .place = NO_SLOT };
	struct tuple answer;

	if (!flow || !flow_tuple(flow, slot, FROM_BACKEND, &answer))
		return 0;
	search.hash = hash_tuple(&answer);
	search.bucket = first_bucket(FROM_BACKEND, search.hash);
	bpf_loop(BUCKET_PLACES, answer_step, &search, 0);
	if (search.place == NO_SLOT) {
		search.bucket = second_bucket(FROM_BACKEND, search.hash);
		bpf_loop(BUCKET_PLACES, answer_step, &search, 0);
	}
	if (search.place != NO_SLOT)
		answer_give_back(search.place);
	return 0;
}

/* Packets change a flow's flags at the same time, but not often. */
#define RELEASE_TRIES 4

/*
 * Forgets a flow as it was seen; its port is free at once. False: another CPU was first, or a packet
 * has made it one that is needed more.
 */
static __always_inline bool flow_release(__u32 slot, struct flow_life seen)
{
	struct flow *flow = flow_at(slot);
	struct flow_life was, free = {};
	bool ours = false;

	if (!flow)
		return false;
	for (int i = 0; i < RELEASE_TRIES && !ours; i++) {
		was = flow_life(flow);
		if (!was.phase || was.turn != seen.turn || was.phase < seen.phase)
			return false;
		free.turn = was.turn + 1;
		free.flags = was.flags; /* the families are still to be read */
		free.protocol = was.protocol;
		ours = flow_life_change(flow, was, free);
	}
	if (!ours)
		return false;
	if (flow_counts_phase(was.phase))
		flow_count_down(flow->backend, flow->backend_generation);
	if (translates(was.forward))
		answer_forget(flow, slot);
	place_free(FROM_CLIENT, slot);
	return true;
}

static __always_inline struct backend *backend_of(__u32 id, __u32 generation)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->service && backend->generation == generation ? backend : NULL;
}

/* Of the packet's flow. */
static __always_inline struct backend *flow_backend(const struct packet *pkt)
{
	return backend_of(pkt->flow.backend, pkt->flow.backend_generation);
}

/* Its time is over, or its backend is gone: room for whoever needs it. */
static __always_inline bool flow_is_dead(const struct flow *flow, __u64 now)
{
	struct backend *backend = backend_of(flow->backend, flow->backend_generation);

	return !backend || flow_expired(backend, flow->life.phase, flow->last_seen, now);
}

/*
 * Copies the packet's flow, so that all that follows is of that one. False: since it was found, or meanwhile, its slot
 * has become another's.
 */
static __always_inline bool flow_read(struct packet *pkt)
{
	struct flow *flow = flow_at(pkt->slot);
	struct flow_life life;

	if (!flow)
		return false;
	life = flow_life(flow);
	pkt->flow = *flow;
	pkt->flow.life = life;
	return life.phase && flow_tuple(&pkt->flow, pkt->slot, !pkt->direction, &pkt->other) &&
	       flow_has(pkt->slot, &pkt->tuple, pkt->direction) &&
	       flow_life(flow).turn == life.turn;
}

/* Forgets the packet's flow, for the next one. If that fails, it is to be looked for again before. */
static __always_inline void flow_replace(struct packet *pkt)
{
	if (!flow_release(pkt->slot, pkt->flow.life))
		pkt->lock_seen = LOCK_HELD;
}

/* Verified by itself, like parse(). */
__noinline bool flow_find(struct packet *pkt, __u64 now)
{
	bool answers;
	__u32 *lock;

	if (!pkt)
		return false;
	pkt->hash = hash_tuple(&pkt->tuple);
	lock = lock_of(pkt->hash);
	pkt->lock_seen = lock ? lock_read(lock) : LOCK_HELD;
	buckets_touch(FROM_CLIENT, pkt->hash);
	answers = history_has(FROM_BACKEND, &pkt->tuple.dst);
	if (answers)
		buckets_touch(FROM_BACKEND, pkt->hash);
	pkt->direction = FROM_CLIENT;
	pkt->slot = slot_find(&pkt->tuple, pkt->hash, FROM_CLIENT);
	if (pkt->slot >= SLOT_PENDING && answers) {
		pkt->direction = FROM_BACKEND;
		pkt->slot = slot_find(&pkt->tuple, pkt->hash, FROM_BACKEND);
	}
	if (pkt->slot == SLOT_PENDING)
		pkt->lock_seen = LOCK_HELD; /* the tuple is somebody's in a moment */
	if (pkt->slot >= SLOT_PENDING || !flow_read(pkt))
		return false;
	if (!flow_expired(flow_backend(pkt), pkt->flow.life.phase, pkt->flow.last_seen, now))
		return true;
	flow_replace(pkt);
	return false;
}

/* A TCP segment that can begin a connection, or any UDP datagram. */
static __always_inline bool opens_flow(const struct packet *pkt)
{
	return pkt->tuple.protocol == IPPROTO_UDP ||
	       (pkt->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* The client starts anew from the same port: after a close, or because its backend is gone. */
static __always_inline bool flow_superseded(const struct packet *pkt)
{
	return pkt->direction == FROM_CLIENT && !pkt->flaw && opens_flow(pkt) &&
	       (pkt->flow.life.phase == PHASE_TCP_CLOSED || !flow_backend(pkt));
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

/* What a packet without SYN says of both sides. */
static __always_inline enum flow_flags flow_hears(enum direction direction, struct flow_life life)
{
	if (direction == FROM_BACKEND)
		return FLOW_ANSWERED;
	return life.flags & FLOW_ANSWERED || !translates(life.forward) ? FLOW_CONFIRMED : 0;
}

/* Another CPU may follow another packet of the flow; flags only come. */
#define TRACK_TRIES 4

/* What this packet says of the connection's life (RFC 9293, 3.3.2, seen from the middle). */
static __always_inline void flow_track(const struct packet *pkt, __u64 now)
{
	struct flow *flow = flow_at(pkt->slot);
	struct flow_life was, is;
	bool ends = false;

	if (!flow)
		return;
	for (int i = 0; i < TRACK_TRIES; i++) {
		was = flow_life(flow);
		if (was.turn != pkt->flow.life.turn)
			return;
		is = was;
		is.flags |= flow_ends(pkt);
		if (pkt->direction == FROM_BACKEND || !(pkt->tcp_flags & TCP_SYN))
			is.flags |= flow_hears(pkt->direction, was);
		is.phase = flow_phase(is);
		if (is.flags == was.flags && is.phase == was.phase)
			break;
		if (flow_life_change(flow, was, is)) {
			ends = flow_counts_phase(was.phase) && !flow_counts_phase(is.phase);
			break;
		}
	}
	if (ends)
		flow_count_down(pkt->flow.backend, pkt->flow.backend_generation);
	if (flow->last_seen != now)
		flow->last_seen = now;
}

static __always_inline bool macs_equal(const struct flow_macs *a, const void *frame)
{
	const __u32 *x = (const void *)a, *y = frame;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* The tags of the packet's flow's client, as it is remembered: other than a VLAN's one. */
static __always_inline void client_tags_take(const struct packet *pkt)
{
	__u32 slot = pkt->slot;
	struct flow_prefixes *prefixes = bpf_map_lookup_elem(&all_flow_prefixes, &slot);

	if (prefixes)
		prefixes->client_tags = tags_without_priority(&pkt->tags);
}

/* Clients move: a router fails over, a cable is changed. What the packet's flow is known to have is not written: its slot may be another's by now. */
static __always_inline void flow_learn(const struct packet *pkt, const struct ethhdr *eth,
				       __u32 interface)
{
	__u32 link = link_of(interface, pkt->vlan);
	bool same_link = pkt->flow.client_link == link && pkt->vlan != VLAN_OTHER;
	bool same_macs = macs_equal(&pkt->flow.macs, eth);
	struct flow *flow;

	if (same_link && same_macs)
		return;
	flow = flow_at(pkt->slot);
	if (!flow || flow_life(flow).turn != pkt->flow.life.turn)
		return;
	if (pkt->vlan == VLAN_OTHER)
		client_tags_take(pkt);
	if (!same_link)
		flow->client_link = link;
	if (!same_macs)
		__builtin_memcpy(&flow->macs, eth, sizeof(flow->macs));
}

static __always_inline bool victim_consider(struct victim *victim, const struct flow *flow,
					    __u32 slot)
{
	struct flow_life life = flow_life(flow);

	if (life.phase < PHASE_UDP_STREAM || life.phase < victim->life.phase ||
	    (life.phase == victim->life.phase && (__s64)(flow->last_seen - victim->last_seen) >= 0))
		return false;
	victim->life = life;
	victim->slot = slot;
	victim->last_seen = flow->last_seen;
	return true;
}

struct room_search {
	__u64 now;
	__u32 bucket;
	bool found; /* a flow that was dead, and has been cleared */
	struct victim victim;
};

static long room_step(__u32 i, struct room_search *search)
{
	__u32 slot = search->bucket * BUCKET_PLACES + i;
	struct flow *flow = flow_at(slot);
	struct flow_life life;

	if (!flow)
		return 0;
	life = flow_life(flow);
	if (!life.phase)
		return 0;
	if (flow_is_dead(flow, search->now) && flow_release(slot, life)) {
		search->found = true;
		return 1;
	}
	victim_consider(&search->victim, flow, slot);
	return 0;
}

/* Clears one of the places that a new flow may have. False: all are needed. */
static __always_inline bool room_make(__u64 hash, __u64 now)
{
	struct room_search search = {
		.now = now,
		.bucket = first_bucket(FROM_CLIENT, hash),
	};

	bpf_loop(BUCKET_PLACES, room_step, &search, 0);
	search.bucket = second_bucket(FROM_CLIENT, hash);
	if (!search.found)
		bpf_loop(BUCKET_PLACES, room_step, &search, 0);
	return search.found ||
	       (search.victim.life.phase && flow_release(search.victim.slot, search.victim.life));
}

/* A slot for a new flow, ours alone, of another that gave way; NO_SLOT when all are needed. Verified by itself, like parse(). */
__noinline __u32 slot_take_over(__u64 hash, __u64 now)
{
	return room_make(hash, now) ? place_claim(FROM_CLIENT, hash) : NO_SLOT;
}

#endif
