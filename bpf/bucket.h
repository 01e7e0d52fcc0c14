/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which places of a table are taken, and by whom. A hash names two buckets of 32 places;
 * new entries go to the emptier one, so that none is full while a fifth of the table
 * is free (Azar et al., "Balanced Allocations", STOC 1994). There are two tables: `flows` itself, by
 * requests, and `answer_slots`. Whoever changes a place's bits from zero owns it until it
 * puts zero back.
 */
#ifndef TINYLB_BUCKET_H
#define TINYLB_BUCKET_H

#include "config.h"
#include "lock.h"
#include "maps.h"
#include "packet.h"

#define NO_SLOT 0xffffffff

/* Each of the four 16-bit parts of a word. */
#define EACH_PART 0x0001000100010001ULL
#define EACH_PART_LOW (0x7fff * EACH_PART)
#define PART_BITS 16

static __always_inline __u32 bucket_count(enum direction table)
{
	return table == FROM_CLIENT ? flow_bucket_count : answer_bucket_count;
}

/* A hash as a number below n (Lemire, "Fast Random Integer Generation in an Interval", 2019). */
static __always_inline __u32 below(__u32 hash, __u32 n)
{
	return (__u64)hash * n >> 32;
}

static __always_inline __u32 first_bucket(enum direction table, __u64 hash)
{
	return below(hash >> 32, bucket_count(table));
}

/* Another one, unless there is only one. */
static __always_inline __u32 second_bucket(enum direction table, __u64 hash)
{
	__u32 n = bucket_count(table), second;

	if (n == 1)
		return 0;
	second = first_bucket(table, hash) + 1 + below(hash, n - 1);
	return second < n ? second : second - n;
}

static __always_inline struct bucket *bucket_at(enum direction table, __u32 index)
{
	__u32 key = table == FROM_CLIENT ? index : flow_bucket_count + index;

	return bpf_map_lookup_elem(&buckets, &key);
}

/* Has memory bring a bucket that will be looked at, while there is other work. */
static __always_inline void bucket_touch(enum direction table, __u32 index)
{
	struct bucket *bucket = bucket_at(table, index);

	if (bucket)
		(void)*(volatile __u64 *)bucket->words;
}

/* Both that a hash may lie in. */
static __always_inline void buckets_touch(enum direction table, __u64 hash)
{
	bucket_touch(table, first_bucket(table, hash));
	bucket_touch(table, second_bucket(table, hash));
}

/* Never 0, which is nobody's. */
static __always_inline __u64 hash_tag(__u64 hash)
{
	__u64 tag = hash & 0xffff;

	return tag ? tag : 1;
}

/* In a bucket the search begins with this word; there most find what they look for. */
static __always_inline __u32 first_word(__u64 hash)
{
	return hash >> PART_BITS & (BUCKET_WORDS - 1);
}

/* And with this part of it: so where most lie is known before the bucket is there. */
static __always_inline __u32 first_part(__u64 hash)
{
	return hash >> (PART_BITS + 3) & (WORD_PLACES - 1);
}

static __always_inline __u32 first_place(__u32 index, __u64 hash)
{
	return index * BUCKET_PLACES + first_word(hash) * WORD_PLACES + first_part(hash);
}

/* The top bit of each part of the word that is equal to the tag. */
static __always_inline __u64 word_matches(__u64 word, __u64 tag)
{
	__u64 differs = word ^ tag * EACH_PART;

	return ~(((differs & EACH_PART_LOW) + EACH_PART_LOW) | differs | EACH_PART_LOW);
}

/* The number of the lowest of the parts that word_matches() found. */
static __always_inline __u32 lowest_part(__u64 matches)
{
	__u64 lowest = (matches & -matches) >> (PART_BITS - 1);

	/* it moves one of the parts 3, 2, 1, 0 of this number to the top */
	return lowest * 0x0000000100020003ULL >> 48;
}

static __always_inline __u64 bucket_word(const struct bucket *bucket, __u32 word)
{
	return *(const volatile __u64 *)&bucket->words[bounded(word, BUCKET_WORDS)];
}

/* Whether one of its places has the tag: the classic test for a zero part (Warren, "Hacker's Delight", 6-1) costs less than to say which. */
static __always_inline bool bucket_may_have(const struct bucket *bucket, __u64 tag)
{
	__u64 pattern = tag * EACH_PART, differs, any = 0;

	for (int i = 0; i < BUCKET_WORDS; i++) {
		differs = bucket_word(bucket, i) ^ pattern;
		any |= (differs - EACH_PART) & ~differs;
	}
	return any & ~EACH_PART_LOW;
}

static __always_inline __u32 bucket_room(const struct bucket *bucket)
{
	__u64 sum = 0; /* in each part, of all words */

	for (int i = 0; i < BUCKET_WORDS; i++)
		sum += word_matches(bucket_word(bucket, i), 0) >> (PART_BITS - 1);
	return sum * EACH_PART >> 48;
}

/* Other CPUs may change the other parts of a word meanwhile. */
#define CLAIM_TRIES 4

/* The lowest of the parts, counted from one of them on. */
static __always_inline __u32 lowest_part_from(__u64 matches, __u32 from)
{
	__u32 bits = from * PART_BITS;
	__u64 turned = matches >> bits | matches << 1 << (63 - bits);

	return (lowest_part(turned) + from) & (WORD_PLACES - 1);
}

/* The part of the word that is ours now; WORD_PLACES: none is free. */
static __always_inline __u32 word_claim(struct bucket *bucket, __u32 word, __u64 hash)
{
	__u64 *at = &bucket->words[bounded(word, BUCKET_WORDS)];
	__u64 old, free;
	__u32 part;

	for (int i = 0; i < CLAIM_TRIES; i++) {
		old = *(volatile __u64 *)at;
		free = word_matches(old, 0);
		if (!free)
			break;
		part = lowest_part_from(free, first_part(hash));
		if (__sync_val_compare_and_swap(at, old,
						old | hash_tag(hash) << part * PART_BITS) == old)
			return part;
	}
	return WORD_PLACES;
}

/* A place in this bucket, ours from now on; NO_SLOT: it is full. */
static __always_inline __u32 bucket_claim(enum direction table, __u32 index, __u64 hash)
{
	struct bucket *bucket = bucket_at(table, index);
	__u32 word, part;

	if (!bucket)
		return NO_SLOT;
	for (int i = 0; i < BUCKET_WORDS; i++) {
		word = (first_word(hash) + i) & (BUCKET_WORDS - 1);
		part = word_claim(bucket, word, hash);
		if (part < WORD_PLACES)
			return index * BUCKET_PLACES + word * WORD_PLACES + part;
	}
	return NO_SLOT;
}

/* Below that much room the second choice is looked at, too. */
#define ROOM_ENOUGH 8

/* The second bucket is to be tried first. */
static __always_inline bool second_is_emptier(enum direction table, __u32 first, __u32 second)
{
	struct bucket *one = bucket_at(table, first), *other = bucket_at(table, second);
	__u32 room = one ? bucket_room(one) : 0;

	return room < ROOM_ENOUGH && other && bucket_room(other) > room;
}

/* A place for whoever has the hash, ours from now on; NO_SLOT: both buckets are full. Verified by itself, like parse(). */
__noinline __u32 place_claim(enum direction table, __u64 hash)
{
	__u32 first = first_bucket(table, hash), second = second_bucket(table, hash),
	      place = NO_SLOT;
	bool other = second_is_emptier(table, first, second);

	for (int i = 0; i < 2 && place == NO_SLOT; i++) {
		place = bucket_claim(table, other ? second : first, hash);
		other = !other;
	}
	return place;
}

/* NO_SLOT is no place. */
static __always_inline void place_free(enum direction table, __u32 place)
{
	struct bucket *bucket = bucket_at(table, place / BUCKET_PLACES);
	__u32 word = bounded(place / WORD_PLACES, BUCKET_WORDS), part = place & (WORD_PLACES - 1);

	if (!bucket)
		return;
	if (stores_are_ordered)
		__sync_fetch_and_and(&bucket->words[word], ~(0xffffULL << part * PART_BITS));
	else
		ordered(__sync_fetch_and_and(&bucket->words[word],
					     ~(0xffffULL << part * PART_BITS)));
}

#endif
