/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table of datagrams of which fragments have come. A datagram may lie in any of the ways of one set, which a
 * keyed hash names. Its lock (lock.h) is held whenever anybody looks at it, shortly, and no other with it.
 */
#ifndef TINYLB_DATAGRAM_H
#define TINYLB_DATAGRAM_H

#include "hash.h"
#include "lock.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct datagram_key datagram_key(const struct packet *pkt)
{
	return (struct datagram_key){
		.src = pkt->tuple.src,
		.dst = pkt->tuple.dst,
		.id = pkt->fragment_id,
		.protocol = pkt->is_v6 ? 0 : pkt->tuple.protocol,
	};
}

static __always_inline __u64 datagram_hash(const struct datagram_key *key)
{
	return addr_is_v4(&key->dst) ?
		       hash_v4(key->src.word[3], key->dst.word[3], key->id, key->protocol) :
		       hash_v6(key->src.word, key->dst.word, key->id, key->protocol);
}

static __always_inline bool datagram_key_equal(const struct datagram_key *a,
					       const struct datagram_key *b)
{
	return addr_equal(&a->src, &b->src) && addr_equal(&a->dst, &b->dst) && a->id == b->id &&
	       a->protocol == b->protocol;
}

static __always_inline struct datagram *datagram_at(__u32 index)
{
	return bpf_map_lookup_elem(&datagrams, &index);
}

static __always_inline struct datagram_units *datagram_units_at(__u32 index)
{
	return bpf_map_lookup_elem(&all_datagram_units, &index);
}

static __always_inline bool datagram_expired(const struct datagram *d, __u64 now)
{
	return (__s64)(now - d->deadline) > 0;
}

static __always_inline bool datagram_is_complete(const struct datagram *d)
{
	return d->end && d->received == (d->end + 7) / 8;
}

/* Nobody waits for anything of it. */
static __always_inline bool datagram_is_done(const struct datagram *d)
{
	return d->state == DATAGRAM_REFUSED ||
	       (d->state != DATAGRAM_WAITING && datagram_is_complete(d));
}

/* More than a holder needs who is not interrupted: a millisecond or so. */
#define LOCK_WAIT_TRIES 65536

struct lock_wait {
	__u32 *lock;
	bool taken;
};

static long lock_wait_step(__u32 i, struct lock_wait *wait)
{
	wait->taken = lock_take(wait->lock, lock_read(wait->lock));
	return wait->taken;
}

/* Of what it protects nothing was seen before, so it may be taken whenever it is free. */
static __always_inline bool lock_wait(__u32 *lock)
{
	struct lock_wait wait = { .lock = lock };

	if (!lock_take(lock, lock_read(lock)))
		bpf_loop(LOCK_WAIT_TRIES, lock_wait_step, &wait, 0);
	else
		wait.taken = true;
	return wait.taken;
}

#define DATAGRAM_NOWHERE 0xffffffff

struct datagram_search {
	const struct packet *pkt;
	__u64 now;
	__u32 set;
	__u32 found;
	__u32 room; /* where a new one may be put */
	__u64 room_since;
};

static long datagram_search_step(__u32 way, struct datagram_search *search)
{
	__u32 index = search->set * DATAGRAM_WAYS + way;
	struct datagram *d = datagram_at(index);
	struct datagram_key key = datagram_key(search->pkt);
	bool expired;

	if (!d)
		return 1;
	expired = d->state == DATAGRAM_NONE || datagram_expired(d, search->now);
	if (!expired && datagram_key_equal(&d->key, &key)) {
		search->found = index;
		return 1;
	}
	if (!expired && !datagram_is_done(d))
		return 0;
	/* what has expired first, of others the oldest */
	if (search->room == DATAGRAM_NOWHERE || (__s64)(d->deadline - search->room_since) < 0) {
		search->room = index;
		search->room_since = d->deadline;
	}
	return 0;
}

/* Where the packet's datagram is, and where it may be put if it is nowhere. Its lock is held. */
static __always_inline void datagram_search(const struct packet *pkt, __u64 now,
					    struct datagram_search *search)
{
	*search = (struct datagram_search){
		.pkt = pkt,
		.now = now,
		.set = pkt->datagram_hash % DATAGRAM_SETS,
		.found = DATAGRAM_NOWHERE,
		.room = DATAGRAM_NOWHERE,
	};
	bpf_loop(DATAGRAM_WAYS, datagram_search_step, search, 0);
}

/* The eight-byte units of the fragment in hand. */
struct unit_walk {
	__u32 index; /* of the datagram */
	__u32 from;
	__u32 to;
	bool any; /* of them have been there */
	bool all;
	bool another_starts; /* inside */
};

/* Bits `from` to `to`, of those that a word has. */
static __always_inline __u64 unit_mask(__u32 word, __u32 from, __u32 to)
{
	__u32 low = word * 64 < from ? from - word * 64 : 0;
	__u32 above = (word + 1) * 64 > to ? (word + 1) * 64 - to : 0;

	return ~0ULL << (low & 63) & ~0ULL >> (above & 63);
}

static long unit_look_step(__u32 i, struct unit_walk *walk)
{
	struct datagram_units *units = datagram_units_at(walk->index);
	__u32 word = walk->from / 64 + i;
	__u64 mask, starts;

	if (!units || word * 64 >= walk->to)
		return 1;
	mask = unit_mask(word, walk->from, walk->to);
	word = bounded(word, UNIT_WORDS);
	walk->any |= (units->there[word] & mask) != 0;
	walk->all &= (units->there[word] & mask) == mask;
	starts = units->starts[word] & mask;
	if (!i)
		starts &= ~(1ULL << (walk->from & 63));
	walk->another_starts |= starts != 0;
	return 0;
}

static long unit_mark_step(__u32 i, struct unit_walk *walk)
{
	struct datagram_units *units = datagram_units_at(walk->index);
	__u32 word = walk->from / 64 + i;
	__u64 mask;

	if (!units || word * 64 >= walk->to)
		return 1;
	mask = unit_mask(word, walk->from, walk->to);
	word = bounded(word, UNIT_WORDS);
	units->there[word] |= mask;
	if (!i)
		units->starts[word] |= 1ULL << (walk->from & 63);
	return 0;
}

static __always_inline bool unit_is(const __u64 *words, __u32 unit)
{
	return words[bounded(unit / 64, UNIT_WORDS)] >> (unit & 63) & 1;
}

/* Those were all of one fragment. */
static __always_inline bool units_are_one(const struct datagram_units *units,
					  const struct unit_walk *walk)
{
	return walk->all && !walk->another_starts && unit_is(units->starts, walk->from) &&
	       (walk->to >= DATAGRAM_UNITS || !unit_is(units->there, walk->to) ||
		unit_is(units->starts, walk->to));
}

/*
 * What is wrong with the fragment beside what came before (RFC 5722; RFC 8200, 4.5): REASON_NONE,
 * REASON_FRAGMENT_DUPLICATE or REASON_FRAGMENT_OVERLAP. Verified by itself, like parse().
 */
__noinline enum reason datagram_judge(__u32 index, __u32 offset, __u32 length, bool more)
{
	struct unit_walk walk = { .index = index, .from = offset / 8, .all = true };
	struct datagram *d = datagram_at(index);
	struct datagram_units *units = datagram_units_at(index);
	__u32 end = offset + length;

	if (!d || !units)
		return REASON_FRAGMENT_OVERLAP;
	walk.to = (end + 7) / 8;
	/* what is behind it, and what is the end, must agree */
	if (more ? d->end && end >= d->end : d->end ? end != d->end : d->reach >= end)
		return REASON_FRAGMENT_OVERLAP;
	bpf_loop(UNIT_WORDS, unit_look_step, &walk, 0);
	if (!walk.any)
		return REASON_NONE;
	return units_are_one(units, &walk) ? REASON_FRAGMENT_DUPLICATE : REASON_FRAGMENT_OVERLAP;
}

/* The fragment has been there. Verified by itself, like parse(). */
__noinline int datagram_mark(__u32 index, __u32 offset, __u32 length, bool more)
{
	struct unit_walk walk = { .index = index, .from = offset / 8 };
	struct datagram *d = datagram_at(index);
	__u32 end = offset + length;

	if (!d)
		return 0;
	walk.to = (end + 7) / 8;
	bpf_loop(UNIT_WORDS, unit_mark_step, &walk, 0);
	d->received += walk.to - walk.from;
	if (end > d->reach)
		d->reach = end;
	if (!more)
		d->end = end;
	return 0;
}

#endif
