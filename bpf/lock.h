/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What keeps two CPUs from opening the same flow. A lock is a counter: odd while
 * somebody holds it, and moved on by each who did. So one compare-and-swap from the value
 * that was there before a look-up both takes it and proves that nothing has been entered since.
 */
#ifndef TINYLB_LOCK_H
#define TINYLB_LOCK_H

#include "config.h"
#include "maps.h"
#include "packet.h"

/*
 * An attempt looks up anew: a holder that was not interrupted is done by then. Loops over it are unrolled: Linux 6.1's
 * verifier takes no loop whose end runs on into its beginning, and clang may lay it out like that.
 */
#define LOCK_TRIES 8

/* Of all tuples with that hash, be they requests or answers. */
static __always_inline __u32 *lock_of(__u64 hash)
{
	__u32 index = hash >> 19 & (LOCKS - 1); /* bits that decide little else */

	return bpf_map_lookup_elem(&locks, &index);
}

static __always_inline __u32 lock_read(const __u32 *lock)
{
	return *(const volatile __u32 *)lock;
}

/* A value of a lock that cannot be taken. */
#define LOCK_HELD 1

static __always_inline bool lock_is_held(__u32 seen)
{
	return seen & LOCK_HELD;
}

/* Takes the lock if it was free when it was seen, and nobody has taken it since. */
static __always_inline bool lock_take(__u32 *lock, __u32 seen)
{
	return !lock_is_held(seen) && __sync_val_compare_and_swap(lock, seen, seen + 1) == seen;
}

/* An atomic operation keeps others from passing it only if its result is asked for. */
static __always_inline void ordered(__u64 result)
{
	asm volatile("" : : "r"(result));
}

/*
 * Makes a value seen, and all that was written before it. x86-64 keeps the order of stores by itself; elsewhere, and there
 * at a price, an atomic exchange does.
 */
static __always_inline void publish(__u64 *at, __u64 value)
{
	if (stores_are_ordered) {
		asm volatile("" ::: "memory");
		*(volatile __u64 *)at = value;
	} else {
		__atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
	}
}

static __always_inline void lock_release(__u32 *lock)
{
	if (stores_are_ordered) {
		asm volatile("" ::: "memory");
		*(volatile __u32 *)lock += 1;
	} else {
		ordered(__sync_fetch_and_add(lock, 1));
	}
}

#endif
