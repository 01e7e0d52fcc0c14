/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments. The first one of a datagram has ports and goes through all stages; what becomes of it becomes of the
 * others. Those that come before it are held, and follow it in one parcel.
 */
#ifndef TINYLB_FRAG_H
#define TINYLB_FRAG_H

#include "cut.h"
#include "datagram.h"
#include "flow.h"
#include "fragment_head.h"
#include "nat.h"
#include "next_hop.h"
#include "parcel.h"
#include "service.h"
#include "stats.h"

static __always_inline struct settings *fragment_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&all_settings, &zero);
}

static __always_inline struct frame_store *frame_store(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&frame_stores, &zero);
}

static long frame_sweep_step(__u32 index, __u64 *now)
{
	struct frame_slot *slot = frame_slot(index);
	struct frame_life life;

	if (!slot)
		return 1;
	life = frame_life(slot);
	if (!frame_is_taken(life.turn) || !frame_is_free(life, *now) ||
	    !frame_claim(slot, life.turn, &life))
		return 0;
	frame_unhold(slot);
	frame_free(slot, life);
	return 0;
}

/* Lets go of what has been held too long; before the next tick there is no more of that. */
static __always_inline void frame_sweep(struct frame_store *store, __u64 now)
{
	if (store->swept == frame_tick(now))
		return;
	store->swept = frame_tick(now);
	bpf_loop(frame_count, frame_sweep_step, &now, 0);
}

/* Counts a frame as held, if one more may be. */
static __always_inline bool hold_one(struct frame_store *store, const struct settings *settings,
				     __u32 length)
{
	__u32 held = __sync_fetch_and_add(&store->held, 1);
	__u64 bytes = __sync_fetch_and_add(&store->held_bytes, length);

	if (held < settings->held && bytes + length <= settings->held_bytes)
		return true;
	__sync_fetch_and_sub(&store->held, 1);
	__sync_fetch_and_sub(&store->held_bytes, length);
	return false;
}

/* False: as many frames, or bytes, are held as may be. */
static __always_inline bool hold_count(__u32 length, __u64 now)
{
	struct settings *settings = fragment_settings();
	struct frame_store *store = frame_store();

	if (!settings || !store)
		return false;
	if (hold_one(store, settings, length))
		return true;
	frame_sweep(store, now);
	return hold_one(store, settings, length);
}

/* Stores the frame in hand, and what is known of it. */
static __always_inline bool hold_fill(struct xdp_md *ctx, struct packet *pkt,
				      struct frame_slot *slot, struct frame_ref ref)
{
	struct fragment_work *work = fragment_work();

	if (!work || !fragment_describe(ctx, pkt))
		return false;
	/* where it lacks bytes it will be refused */
	if (!csum_range(ctx, pkt->l3_offset, pkt->ip_length, &work->in.sum))
		work->in.sum = 0;
	__builtin_memcpy(slot->head, &work->in, sizeof(work->in));
	return frame_keep(ctx, ref.index, 0, pkt->length);
}

/* Keeps the frame in hand for its datagram's first one. False: there is no room. Verified by itself, like parse(). */
__noinline bool fragment_hold(struct xdp_md *ctx, struct packet *pkt, __u32 index, __u64 now)
{
	struct datagram *d = datagram_at(index);
	struct frame_slot *slot;
	struct frame_ref ref;

	if (!pkt || !d || pkt->length > FRAME_MAX || pkt->payload_offset > PAYLOAD_OFFSET_MAX ||
	    !frame_take(&ref, now, d->deadline))
		return false;
	slot = frame_slot(ref.index);
	if (!slot)
		return false;
	slot->length = pkt->length;
	slot->is_held = hold_count(pkt->length, now);
	if (!slot->is_held || !hold_fill(ctx, pkt, slot, ref)) {
		chain_free(ref.index, ref.turn);
		return false;
	}
	chain_append(&d->held, ref);
	return true;
}

static long unit_clear_step(__u32 word, __u32 *index)
{
	struct datagram_units *units = datagram_units_at(*index);

	if (!units)
		return 1;
	word = bounded(word, UNIT_WORDS);
	units->there[word] = 0;
	units->starts[word] = 0;
	return 0;
}

/* The packet's datagram takes the place of one that nobody waits for. Its lock is held. */
static __always_inline void datagram_begin(const struct packet *pkt, __u32 index, __u64 now)
{
	struct settings *settings = fragment_settings();
	struct frame_store *store = frame_store();
	struct datagram *d = datagram_at(index);

	if (!d || !settings || !store)
		return;
	if ((d->state == DATAGRAM_WAITING || d->state == DATAGRAM_FORWARDED) &&
	    !datagram_is_complete(d))
		__sync_fetch_and_add(&store->incomplete, 1);
	if (d->held.first.turn)
		chain_free(d->held.first.index, d->held.first.turn);
	bpf_loop(d->reach / 512 + 1, unit_clear_step, &index, 0);
	__builtin_memset(d, 0, sizeof(*d));
	d->key = datagram_key(pkt);
	d->deadline = now + settings->fragment_timeout;
	d->state = DATAGRAM_WAITING;
}

/* Bytes of its datagram in it, as its header says. */
static __always_inline __u32 fragment_length(const struct packet *pkt)
{
	return pkt->ip_length - (pkt->payload_offset - pkt->l3_offset);
}

/* What is wrong with the packet, by itself or beside others. */
static __always_inline enum reason fragment_flaw(const struct packet *pkt, __u32 index)
{
	if (pkt->flaw)
		return pkt->flaw;
	return datagram_judge(index, pkt->fragment_offset, fragment_length(pkt),
			      pkt->more_fragments);
}

static __always_inline void fragment_mark(const struct packet *pkt, __u32 index)
{
	datagram_mark(index, pkt->fragment_offset, fragment_length(pkt), pkt->more_fragments);
}

/* A fragment of a datagram of which it is not known yet whether it is for a service. Its lock is held. */
static __always_inline enum verdict fragment_wait(struct xdp_md *ctx, struct packet *pkt,
						  __u32 index, __u64 now)
{
	struct datagram *d = datagram_at(index);
	enum reason flaw = fragment_flaw(pkt, index);

	if (!d)
		return leave(pkt, VERDICT_ABORTED, REASON_FRAGMENT_FULL);
	if (flaw == REASON_FRAGMENT_DUPLICATE)
		return leave(pkt, VERDICT_DROP, flaw);
	if (pkt->fragment_offset && !fragment_hold(ctx, pkt, index, now)) {
		if (!d->reach && !d->reason)
			d->state = DATAGRAM_NONE; /* it has just begun */
		return leave(pkt, VERDICT_DROP, REASON_FRAGMENT_FULL);
	}
	/* the host may still want it: so it goes on, or is held, all the same */
	if (!d->reason)
		d->reason = flaw;
	if (!pkt->fragment_offset) {
		pkt->settles = true;
		note(pkt, d->reason);
	}
	if (!flaw)
		fragment_mark(pkt, index);
	return pkt->fragment_offset ? leave(pkt, VERDICT_DROP, REASON_FRAGMENT_HELD) :
				      VERDICT_CONTINUE;
}

/* A fragment of a datagram that goes on with a flow. Its lock is held. */
static __always_inline enum verdict fragment_join(struct packet *pkt, __u32 index, __u64 now)
{
	struct settings *settings = fragment_settings();
	struct datagram *d = datagram_at(index);
	enum reason flaw = fragment_flaw(pkt, index);

	if (!d || !settings)
		return leave(pkt, VERDICT_ABORTED, REASON_FRAGMENT_FULL);
	pkt->slot = d->slot;
	pkt->flow.life.turn = d->turn;
	pkt->direction = d->direction;
	pkt->datagram_id = d->id;
	if (!flaw) {
		fragment_mark(pkt, index);
		d->deadline = now + settings->fragment_timeout;
	} else if (flaw != REASON_FRAGMENT_DUPLICATE) {
		d->state = DATAGRAM_REFUSED;
		d->reason = flaw;
	}
	pkt->flaw = flaw;
	return VERDICT_LATER;
}

/* The same, of one that is the host's. */
static __always_inline enum verdict fragment_pass(struct packet *pkt, __u32 index, __u64 now)
{
	struct settings *settings = fragment_settings();
	struct datagram *d = datagram_at(index);

	if (d && settings)
		d->deadline = now + settings->fragment_timeout;
	if (!fragment_flaw(pkt, index))
		fragment_mark(pkt, index);
	return leave(pkt, VERDICT_PASS, REASON_FRAGMENT);
}

/* The same, of one that was refused. */
static __always_inline enum verdict fragment_refused(struct packet *pkt, const struct datagram *d)
{
	struct service *service = service_at(&pkt->tuple.dst, d->dport, d->protocol);

	if (service)
		pkt->service = service->id;
	return leave(pkt, d->reason == REASON_TRUNCATED ? VERDICT_ABORTED : VERDICT_DROP,
		     d->reason);
}

/* Its datagram's lock is held. */
static __always_inline enum verdict fragment_enter(struct xdp_md *ctx, struct packet *pkt,
						   __u64 now)
{
	struct datagram_search search;
	struct datagram *d;

	datagram_search(pkt, now, &search);
	if (search.found == DATAGRAM_NOWHERE) {
		search.found = search.room;
		datagram_begin(pkt, search.found, now);
	}
	d = datagram_at(search.found);
	if (!d) {
		note(pkt, REASON_FRAGMENT_FULL);
		return pkt->fragment_offset ? leave(pkt, VERDICT_DROP, REASON_FRAGMENT_FULL) :
					      VERDICT_CONTINUE;
	}
	switch (d->state) {
	case DATAGRAM_FORWARDED:
		return fragment_join(pkt, search.found, now);
	case DATAGRAM_PASSED:
		return fragment_pass(pkt, search.found, now);
	case DATAGRAM_REFUSED:
		return fragment_refused(pkt, d);
	default:
		return fragment_wait(ctx, pkt, search.found, now);
	}
}

/*
 * Stage 2 for fragments: what is known of the datagram. VERDICT_CONTINUE: it is the first, and goes on like any packet;
 * VERDICT_LATER: pkt->slot was the flow's. Verified by itself, like parse().
 */
__noinline enum verdict fragment_arrive(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct datagram_key key;
	enum verdict verdict;
	__u32 *lock;

	if (!pkt)
		return VERDICT_ABORTED;
	key = datagram_key(pkt);
	pkt->datagram_hash = datagram_hash(&key);
	lock = lock_of(pkt->datagram_hash);
	if (!lock || !lock_wait(lock)) {
		note(pkt, REASON_FLOW_TABLE_BUSY);
		return pkt->fragment_offset ? leave(pkt, VERDICT_DROP, REASON_FLOW_TABLE_BUSY) :
					      VERDICT_CONTINUE;
	}
	verdict = fragment_enter(ctx, pkt, now);
	lock_release(lock);
	return verdict;
}

/* Copies the flow that a later fragment's datagram goes on with. False: it has ended. */
static __always_inline bool fragment_read_flow(struct packet *pkt)
{
	struct flow *flow = flow_at(pkt->slot);
	struct flow_life life;

	if (!flow)
		return false;
	life = flow_life(flow);
	if (!life.phase || life.turn != pkt->flow.life.turn)
		return false;
	pkt->flow = *flow;
	pkt->flow.life = life;
	return flow_tuple(&pkt->flow, pkt->slot, pkt->direction, &pkt->tuple) &&
	       flow_tuple(&pkt->flow, pkt->slot, !pkt->direction, &pkt->other) &&
	       flow_life(flow).turn == life.turn;
}

/*
 * Tells its datagram's other fragments what becomes of the first, and hands over those that waited for it, in
 * pkt->held. Verified by itself, like parse().
 */
__noinline int datagram_settle(struct packet *pkt, enum datagram_state state, __u64 now)
{
	struct settings *settings = fragment_settings();
	struct datagram_search search;
	struct datagram *d;
	__u32 *lock;

	if (!pkt || !settings)
		return 0;
	pkt->settles = false;
	lock = lock_of(pkt->datagram_hash);
	if (!lock || !lock_wait(lock))
		return 0;
	datagram_search(pkt, now, &search);
	d = datagram_at(search.found);
	if (d) {
		pkt->held = d->held.first;
		d->held = (struct frame_chain){};
		d->state = state;
		d->reason = pkt->reason;
		d->deadline = now + settings->fragment_timeout;
		d->slot = pkt->slot;
		d->turn = pkt->flow.life.turn;
		d->direction = pkt->direction;
		d->id = pkt->datagram_id;
		d->dport = pkt->tuple.dport;
		d->protocol = pkt->tuple.protocol;
	}
	lock_release(lock);
	return 0;
}

/* Why a first fragment's datagram cannot be translated to the other IP version (RFC 7915, 4.5, 5.1.1). */
static __always_inline enum reason untranslatable(struct xdp_md *ctx, const struct packet *pkt)
{
	__sum16 *check = l4_checksum_field(ctx, pkt);

	if (pkt->l4_offset != pkt->payload_offset)
		return REASON_MANY_HEADERS;
	if (pkt->is_v6)
		return REASON_NONE;
	if (has_source_route(ctx, pkt))
		return REASON_SOURCE_ROUTE;
	return check && !*check && pkt->tuple.protocol == IPPROTO_UDP ? REASON_NO_CHECKSUM :
									REASON_NONE;
}

/* The ports and the checksum of a first fragment. Verified by itself, like parse(). */
__noinline bool fragment_ports(struct xdp_md *ctx, struct packet *pkt)
{
	const struct addr *src, *dst;

	if (!pkt)
		return false;
	src = &pkt->other.dst;
	dst = &pkt->other.src;
	return nat_ports(ctx, pkt, &pkt->other,
			 csum_addr_inverse(&pkt->tuple.src) + csum_addr_inverse(&pkt->tuple.dst) +
				 csum_addr(src) + csum_addr(dst));
}

/* Only the checksum of GUE over IPv6 needs it. False: it goes on behind the 64 KB that can be read. */
static __always_inline bool fragment_sum(struct xdp_md *ctx, const struct packet *pkt)
{
	struct fragment_work *work = fragment_work();

	if (!work || pkt->flow.life.forward != FORWARD_GUE)
		return work;
	return csum_range(ctx, pkt->l3_offset, pkt->ip_length, &work->in.sum);
}

/* Puts the new head in front of the frame in hand. Verified by itself, like parse(). */
__noinline bool fragment_apply(struct xdp_md *ctx, const struct packet *pkt)
{
	struct fragment_work *work = fragment_work();
	struct fragment_header *header;
	__u32 start, length;

	if (!pkt || !work)
		return false;
	if (work->has_id) {
		header = packet_at(ctx, pkt->fragment_header, sizeof(*header));
		if (!header)
			return false;
		header->id = work->id;
	}
	start = work->start;
	length = work->length;
	if (work->replaced != length && bpf_xdp_adjust_head(ctx, (int)work->replaced - (int)length))
		return false;
	asm volatile("" : "+r"(start)); /* for the verifier */
	if (start > HEAD_L3 || !is_size(&length, FRAME_HEAD_MAX - HEAD_L3))
		return false;
	return !bpf_xdp_store_bytes(ctx, 0, work->head + start, length);
}

/* Finishes a slot, which is the caller's: the new head, and `length` bytes from `offset` on. */
static __always_inline bool frame_head(struct frame_slot *slot, const struct packet *pkt,
				       __u32 offset, __u32 length)
{
	struct fragment_work *work = fragment_work();
	__u32 start;

	if (!work)
		return false;
	start = work->start;
	asm volatile("" : "+r"(start)); /* for the verifier */
	if (start > HEAD_L3)
		return false;
	__builtin_memcpy(slot->head, work->head + start, FRAME_HEAD_MAX - HEAD_L3);
	slot->head_length = work->length;
	slot->offset = offset;
	slot->length = length;
	slot->interface = work->to_host ? 0 : pkt->hop.interface;
	return true;
}

/* With its new head it is not too long; what is longer than its link allows, the kernel has made. */
static __always_inline bool fragment_fits(const struct fragment_work *work)
{
	__u32 before = work->replaced - work->in.l3_offset, link = HEAD_L3 - work->start;
	__u32 length = work->in.ip_length - before + work->length - link;

	return work->to_host || !work->limit || length <= work->limit ||
	       (work->came_by && work->in.ip_length > work->came_by);
}

/* The fragment's own head becomes that of a piece of it. */
static __always_inline void head_patch(struct fragment_work *work, __u32 length, bool more)
{
	struct fragment_header *header = (void *)(work->head + HEAD_L3 + sizeof(struct ipv6hdr));
	struct ipv6hdr *v6 = (void *)(work->head + HEAD_L3);
	struct iphdr *v4 = (void *)(work->head + HEAD_L3);
	__u16 place = work->in.place + work->cut_done / 8;

	if (v6->version == 6) {
		v6->payload_len = bpf_htons(sizeof(*header) + length);
		header->place = bpf_htons(place << 3 | more);
		return;
	}
	cut_replace(&v4->tot_len, bpf_htons(sizeof(*v4) + length), &v4->check);
	cut_replace(&v4->frag_off, bpf_htons(place | (more ? IPV4_MORE_FRAGMENTS : 0)), &v4->check);
}

struct fragment_cut_walk {
	const struct packet *pkt;
	__u64 now;
};

/* The next piece; the last one has the slot that all bytes are in, and goes last. */
static long fragment_cut_step(__u32 i, struct fragment_cut_walk *walk)
{
	struct fragment_work *work = fragment_work();
	struct frame_slot *slot;
	struct frame_ref ref;
	bool is_last;
	__u32 length;

	if (!work)
		return 1;
	is_last = work->cut_left <= work->cut_most;
	length = is_last ? work->cut_left : work->cut_most;
	ref = work->cut;
	if (!is_last && !frame_take(&ref, walk->now, walk->now + PARCEL_NS))
		return 1;
	slot = frame_slot(ref.index);
	if (!slot)
		return 1;
	head_patch(work, length, !is_last || work->in.more);
	slot->bytes = work->cut.index;
	frame_head(slot, walk->pkt, work->in.payload_offset + work->cut_done, length);
	chain_append(&work->chain, ref);
	work->cut_done += length;
	work->cut_left -= length;
	work->cut_failed = !is_last;
	return is_last;
}

/* Makes pieces of a stored frame, in work->cut. False: it cannot be cut. */
static __always_inline bool fragment_cut(const struct packet *pkt, __u64 now)
{
	struct fragment_cut_walk walk = { .pkt = pkt, .now = now };
	struct fragment_work *work = fragment_work();
	__u32 headers;

	if (!pkt || !work)
		return false;
	headers = work->length - (HEAD_L3 - work->start);
	/* only of a head that is all of the headers it is known how to go on */
	if (work->replaced != work->in.payload_offset || !translates(pkt->flow.life.forward) ||
	    work->limit < headers + 8 ||
	    (!work->in.is_v6 && fragment_v4(&work->in)->frag_off & bpf_htons(IPV4_DONT_FRAGMENT)))
		return false;
	work->cut_done = 0;
	work->cut_left = work->in.ip_length - (work->in.payload_offset - work->in.l3_offset);
	work->cut_most = cut_evenly(work->cut_left, (work->limit - headers) & ~7U);
	work->cut_failed = true;
	bpf_loop(CUT_PIECES_MAX, fragment_cut_step, &walk, 0);
	return true;
}

/* Appends a stored frame, which is the caller's, to those that leave, with the new head. False: it does not. Verified by itself, like parse(). */
__noinline bool frame_finish(const struct packet *pkt, __u32 index, __u32 turn, __u64 now)
{
	struct frame_ref ref = { .index = index, .turn = turn };
	struct frame_bytes *frame = frame_bytes(index);
	struct frame_slot *slot = frame_slot(index);
	struct fragment_work *work = fragment_work();
	__u32 id_at;

	if (!pkt || !frame || !slot || !work || slot->length <= work->replaced || work->cut_failed)
		return false;
	if (!fragment_fits(work)) {
		work->cut = ref;
		return fragment_cut(pkt, now) && !work->cut_failed;
	}
	id_at = work->in.header_offset + offsetof(struct fragment_header, id);
	asm volatile("" : "+r"(id_at)); /* for the verifier */
	if (id_at > FRAME_OFFSET_MAX)
		return false;
	if (work->has_id)
		__builtin_memcpy(frame->bytes + id_at, &work->id, sizeof(work->id));
	if (!frame_head(slot, pkt, work->replaced, slot->length - work->replaced))
		return false;
	chain_append(&work->chain, ref);
	return true;
}

struct fragment_walk {
	struct packet *pkt;
	__u64 now;
	struct frame_life life; /* of the slot in hand */
	struct frame_ref next;
};

/* A later fragment's time is over; nobody is told. */
static __always_inline bool fragment_expires(const struct packet *pkt,
					     const struct fragment_work *work)
{
	return !work->to_host && translates(pkt->flow.life.forward) && fragment_ttl(&work->in) <= 1;
}

/* One that was held goes to, or comes from, the backend. Verified by itself, like parse(). */
__noinline int fragment_count(const struct packet *pkt, __u32 length)
{
	if (pkt)
		count_backend(&(struct outcome){
			.reason = pkt->direction == FROM_CLIENT ? REASON_FORWARDED : REASON_REPLY,
			.backend = pkt->backend,
			.length = length,
		});
	return 0;
}

/* One that was held follows those in the chain. */
static long fragment_follow_step(__u32 i, struct fragment_walk *walk)
{
	struct frame_ref ref = walk->next;
	struct frame_slot *slot = frame_slot(ref.index);
	struct fragment_work *work = fragment_work();
	struct packet *pkt = walk->pkt;
	__u32 length;

	if (!slot || !work || !frame_renew(slot, &ref, walk->now, &walk->life))
		return 1;
	walk->next = slot->next;
	slot->next = (struct frame_ref){};
	frame_unhold(slot);
	length = slot->length;
	__builtin_memcpy(&work->in, slot->head, sizeof(work->in));
	if (fragment_expires(pkt, work) || !fragment_head(pkt) ||
	    !frame_finish(pkt, ref.index, ref.turn, walk->now)) {
		frame_free(slot, walk->life);
		return 0;
	}
	if (!work->to_host)
		fragment_count(pkt, length);
	return 0;
}

/* Stores the frame in hand, with the head that was made for it, as the first of a chain. */
static __always_inline bool fragment_store(struct xdp_md *ctx, struct packet *pkt,
					   struct fragment_walk *walk)
{
	struct frame_ref ref;

	if (pkt->length > FRAME_MAX || !frame_take(&ref, walk->now, walk->now + PARCEL_NS))
		return false;
	if (!frame_keep(ctx, ref.index, 0, pkt->length) ||
	    !frame_finish(pkt, ref.index, ref.turn, walk->now)) {
		chain_free(ref.index, ref.turn);
		return false;
	}
	return true;
}

/*
 * Sends the frame in hand and, behind it, those that waited for it, in pkt->held; a frame that is sent has its head
 * already. Where the frame in hand is not wanted they are not, either. Verified by itself, like parse().
 */
__noinline enum verdict fragment_release(struct xdp_md *ctx, struct packet *pkt,
					 enum verdict verdict, __u64 now)
{
	struct fragment_walk walk = { .pkt = pkt, .now = now };
	struct fragment_work *work = fragment_work();
	bool stored;

	if (!pkt || !work)
		return VERDICT_ABORTED;
	walk.next = pkt->held;
	work->chain = (struct frame_chain){};
	work->cut_failed = false;
	work->to_host = verdict == VERDICT_PASS;
	if (work->to_host)
		stored = fragment_describe(ctx, pkt) && fragment_head(pkt);
	else
		stored = is_forwarded(pkt->reason);
	if (stored && fragment_store(ctx, pkt, &walk)) {
		bpf_loop(PARCEL_FRAMES, fragment_follow_step, &walk, 0);
		if (!work->cut_failed && parcel_send(ctx, pkt, work->chain.first))
			return verdict;
	}
	chain_free(work->chain.first.index, work->chain.first.turn);
	chain_free(walk.next.index, walk.next.turn);
	return stored && verdict != VERDICT_PASS ? leave(pkt, VERDICT_DROP, REASON_FRAGMENT_FULL) :
						   verdict;
}

/* The first fragment's datagram goes on with the flow in pkt. False, and pkt->reason set: it cannot. */
static __always_inline bool fragment_lead(struct xdp_md *ctx, struct packet *pkt, bool translated)
{
	enum reason reason = REASON_NONE;

	if (translated && pkt->is_v6 == addr_is_v4(&pkt->other.src))
		reason = untranslatable(ctx, pkt);
	if (reason)
		pkt->reason = reason;
	/* several senders may become one: their ids must not meet */
	pkt->datagram_id = translated ? random_u32() : 0;
	return !reason;
}

/* Sends the frame in hand with its new head, in pieces if it must be. */
static __always_inline enum verdict fragment_send(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct fragment_work *work = fragment_work();

	if (!work || !fragment_apply(ctx, pkt))
		return leave(pkt, VERDICT_DROP, REASON_TOO_BIG);
	if (!pkt->cut_to)
		return leave_by(ctx, pkt->hop.interface);
	pkt->l3_offset = HEAD_L3 - work->start;
	return cut_up(ctx, pkt, pkt->hop.interface, now) ?
		       leaving_by(ctx, pkt->hop.interface) :
		       leave(pkt, VERDICT_DROP, REASON_MTU_EXCEEDED);
}

static __always_inline __u32 fragment_limit(const struct packet *pkt, __u64 now)
{
	struct backend *backend = flow_backend(pkt);

	return backend ? limit_out(pkt, backend, pkt->hop.mtu, now) : 0;
}

/* Stage 6 for fragments; the next hop is in pkt->hop. Verified by itself, like parse(). */
__noinline enum verdict fragment_forward(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct fragment_work *work = fragment_work();
	bool is_first, translated;

	if (!pkt || !work)
		return VERDICT_ABORTED;
	is_first = !pkt->fragment_offset;
	translated = translates(pkt->flow.life.forward);
	work->to_host = false;
	work->tags = tags_toward(pkt, &pkt->hop);
	work->limit = fragment_limit(pkt, now);
	work->came_by = interface_mtu(ctx->ingress_ifindex);
	if (!fragment_describe(ctx, pkt))
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	if (is_first && !fragment_lead(ctx, pkt, translated))
		return VERDICT_DROP;
	if (!fragment_sum(ctx, pkt) || !fragment_head(pkt))
		return leave(pkt, VERDICT_DROP, REASON_TOO_BIG);
	if (pkt->settles)
		datagram_settle(pkt, DATAGRAM_FORWARDED, now);
	if (pkt->held.turn && pkt->length > FRAME_MAX)
		return leave(pkt, VERDICT_DROP, REASON_FRAGMENT_FULL);
	if (is_first && translated && !fragment_ports(ctx, pkt))
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	return pkt->held.turn ? leaving_by(ctx, pkt->hop.interface) : fragment_send(ctx, pkt, now);
}

/* The end of the stages for fragments: what becomes of a first one becomes of the others. */
static __always_inline enum verdict fragment_done(struct xdp_md *ctx, struct packet *pkt,
						  enum verdict verdict, __u64 now)
{
	if (pkt->settles)
		datagram_settle(pkt, verdict == VERDICT_PASS ? DATAGRAM_PASSED : DATAGRAM_REFUSED,
				now);
	return pkt->held.turn ? fragment_release(ctx, pkt, verdict, now) : verdict;
}

#endif
