// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Clears flows that are dead, whether or not anybody needs their room: so a count of flows is one of those that live, and a port is
 * free when it may be. A timer in a map keeps itself going, a stretch of the table at a time, for as long as the map is
 * pinned; it needs no daemon. To the flow table it is one CPU more that makes room.
 */
#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "flow.h"
#include "maps.h"
#include "types.h"

/* Every 20 ms a stretch, and in 10 s the whole table, where that is not too much for one stretch. */
#define SWEEP_INTERVAL_NS 20000000ULL
#define SWEEP_ROUND 500
#define SWEEP_BUCKETS_MAX 64

struct sweep {
	__u64 now;
	__u32 first; /* bucket */
};

/* A slot that is taken. Verified by itself, like parse(). */
__noinline int sweep_slot(__u32 slot, __u64 now)
{
	struct flow *flow = flow_at(slot);
	struct flow_life life;

	if (!flow)
		return 0;
	life = flow_life(flow);
	if (life.phase && flow_is_dead(flow, now))
		flow_release(slot, life);
	return 0;
}

static long sweep_word(__u32 i, struct sweep *sweep)
{
	__u32 index = (sweep->first + i / BUCKET_WORDS) % flow_bucket_count;
	struct bucket *bucket = bucket_at(FROM_CLIENT, index);
	__u64 taken;

	if (!bucket)
		return 0;
	taken = ~word_matches(bucket_word(bucket, i % BUCKET_WORDS), 0) & ~EACH_PART_LOW;
#pragma unroll
	for (__u32 part = 0; part < WORD_PLACES; part++)
		if (taken >> (part * PART_BITS + PART_BITS - 1) & 1)
			sweep_slot(index * BUCKET_PLACES + i % BUCKET_WORDS * WORD_PLACES + part,
				   sweep->now);
	return 0;
}

static __always_inline void sweep_stretch(struct sweeper *sweeper, __u32 buckets)
{
	struct sweep sweep = { .now = clock_now(), .first = sweeper->next };

	sweeper->next = (sweep.first + buckets) % flow_bucket_count;
	bpf_loop(buckets * BUCKET_WORDS, sweep_word, &sweep, 0);
}

static int sweep_tick(void *map, __u32 *key, struct sweeper *sweeper)
{
	__u32 buckets = (flow_bucket_count + SWEEP_ROUND - 1) / SWEEP_ROUND;

	sweep_stretch(sweeper, buckets < SWEEP_BUCKETS_MAX ? buckets : SWEEP_BUCKETS_MAX);
	bpf_timer_start(&sweeper->timer, SWEEP_INTERVAL_NS, 0);
	return 0;
}

#define CLOCK_MONOTONIC 1

/* What user space runs once is of the type that has the data plane's helpers. */

/* Has the timer run from now on, this program's in place of an earlier one's. */
SEC("xdp")
int sweep_start(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct sweeper *sweeper = bpf_map_lookup_elem(&sweepers, &zero);

	if (!sweeper)
		return 1;
	bpf_timer_init(&sweeper->timer, &sweepers, CLOCK_MONOTONIC); /* fails where it has been */
	if (bpf_timer_set_callback(&sweeper->timer, sweep_tick))
		return 2;
	return bpf_timer_start(&sweeper->timer, SWEEP_INTERVAL_NS, 0) ? 3 : 0;
}

/* The whole table at once: for tests, whose clock no timer follows. */
SEC("xdp")
int sweep_all(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct sweeper *sweeper = bpf_map_lookup_elem(&sweepers, &zero);

	if (!sweeper)
		return 1;
	sweep_stretch(sweeper, flow_bucket_count);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
