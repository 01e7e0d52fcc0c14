/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frames that are stored, and sent all at once: XDP's side of frames.h. */
#ifndef TINYLB_PARCEL_H
#define TINYLB_PARCEL_H

#include "answer.h"
#include "config.h"
#include "frames.h"
#include "maps.h"
#include "packet.h"

/* So long a parcel may be on its way. */
#define PARCEL_NS 1000000000ULL

/* What the frame in hand is cut to once it only carries a parcel. */
#define PARCEL_LENGTH 64

static __always_inline __u32 frame_tick(__u64 ns)
{
	return ns >> FRAME_TICK_SHIFT;
}

static __always_inline bool frame_is_free(struct frame_life life, __u64 now)
{
	return !frame_is_taken(life.turn) || (__s32)(frame_tick(now) - life.deadline) > 0;
}

/* It counts as held no more. */
static __always_inline void frame_unhold(struct frame_slot *slot)
{
	__u32 zero = 0;
	struct frame_store *store = bpf_map_lookup_elem(&frame_stores, &zero);

	if (!store || !slot->is_held)
		return;
	slot->is_held = false;
	__sync_fetch_and_sub(&store->held, 1);
	__sync_fetch_and_sub(&store->held_bytes, slot->length);
}

struct frame_search {
	__u64 now;
	__u64 deadline;
	__u32 start;
	struct frame_ref found;
};

static long frame_search_step(__u32 i, struct frame_search *search)
{
	__u32 index = (search->start + i) % frame_count;
	struct frame_slot *slot = frame_slot(index);
	struct frame_life was, is;

	if (!slot)
		return 1;
	was = frame_life(slot);
	if (!frame_is_free(was, search->now))
		return 0;
	is.turn = was.turn + (frame_is_taken(was.turn) ? 2 : 1);
	is.deadline = frame_tick(search->deadline);
	if (!frame_life_change(slot, was, is))
		return 0;
	search->found = (struct frame_ref){ .index = index, .turn = is.turn };
	return 1;
}

/* A slot of the caller's own until `deadline`. False: there is none. Verified by itself, like parse(). */
__noinline bool frame_take(struct frame_ref *taken, __u64 now, __u64 deadline)
{
	struct frame_search search = { .now = now, .deadline = deadline };
	struct frame_store *store;
	struct frame_slot *slot;
	__u32 zero = 0, index;

	store = bpf_map_lookup_elem(&frame_stores, &zero);
	if (!store || !taken)
		return false;
	search.start = store->cursor;
	bpf_loop(frame_count, frame_search_step, &search, 0);
	index = search.found.index;
	slot = frame_slot(index);
	if (!slot || !search.found.turn)
		return false;
	store->cursor = index + 1;
	frame_unhold(slot);
	slot->next = (struct frame_ref){};
	slot->bytes = index;
	*taken = search.found;
	return true;
}

/* Of a frame that was held, and goes into a parcel. False: it has become somebody else's. */
static __always_inline bool frame_renew(struct frame_slot *slot, struct frame_ref *ref, __u64 now,
					struct frame_life *life)
{
	struct frame_life was = frame_life(slot);

	*life = (struct frame_life){
		.turn = was.turn + 2,
		.deadline = frame_tick(now + PARCEL_NS),
	};
	if (was.turn != ref->turn || !frame_is_taken(was.turn) ||
	    !frame_life_change(slot, was, *life))
		return false;
	ref->turn = life->turn;
	return true;
}

/* The slot, as long as it is the caller's. */
static __always_inline struct frame_slot *frame_of(struct frame_ref ref)
{
	struct frame_slot *slot = frame_slot(ref.index);

	return slot && ref.turn && frame_life(slot).turn == ref.turn ? slot : NULL;
}

/* Stores `length` bytes of the packet, from `offset` on. Verified by itself, like parse(). */
__noinline bool frame_keep(struct xdp_md *ctx, __u32 index, __u32 offset, __u32 length)
{
	struct frame_slot *slot = frame_slot(index);
	struct frame_bytes *frame = frame_bytes(index);

	if (!slot || !frame || !is_size(&length, FRAME_MAX))
		return false;
	slot->offset = 0;
	slot->length = length;
	return !bpf_xdp_load_bytes(ctx, offset, frame->bytes, length);
}

/*
 * An empty chain, for a loop that appends to it. Verified by itself, so that Linux 6.1's verifier does not take what it
 * is before the first round for what it is in all of them.
 */
__noinline int chain_clear(struct frame_chain *chain)
{
	if (chain)
		*chain = (struct frame_chain){};
	return 0;
}

static __always_inline void chain_append(struct frame_chain *chain, struct frame_ref ref)
{
	struct frame_slot *last = frame_of(chain->last);

	if (last)
		last->next = ref;
	else
		chain->first = ref;
	chain->last = ref;
}

struct chain_walk {
	struct frame_ref next;
};

static long chain_free_step(__u32 i, struct chain_walk *walk)
{
	struct frame_slot *slot = frame_slot(walk->next.index);
	__u32 turn = walk->next.turn;
	struct frame_life life;

	if (!slot || !frame_is_taken(turn) || !frame_claim(slot, turn, &life))
		return 1;
	walk->next = slot->next;
	frame_unhold(slot);
	frame_free(slot, life);
	return 0;
}

/* Lets go of frames that will not be sent. Verified by itself, like parse(). */
__noinline int chain_free(__u32 index, __u32 turn)
{
	struct chain_walk walk = { .next = { .index = index, .turn = turn } };

	bpf_loop(PARCEL_FRAMES, chain_free_step, &walk, 0);
	return 0;
}

/*
 * The frame in hand gives way to the stored ones: it goes on to the program in emit.bpf.c. Nothing of it is needed any
 * more, and nothing may be done to it afterwards. The verdict stays what becomes of the packet.
 */
static __always_inline bool parcel_send(struct xdp_md *ctx, struct packet *pkt,
					struct frame_ref first)
{
	struct {
		struct ethhdr eth;
		struct parcel parcel;
	} __attribute__((packed)) *at = packet_at(ctx, 0, sizeof(*at));

	if (!at)
		return false;
	at->eth.h_proto = bpf_htons(ETH_P_PARCEL);
	at->parcel = (struct parcel){ .magic = PARCEL_MAGIC, .first = first };
	pkt->is_parcel = true;
	if (bpf_xdp_get_buff_len(ctx) > PARCEL_LENGTH)
		cut(ctx, PARCEL_LENGTH); /* if it cannot be, the rest is carried, too */
	return true;
}

#endif
