/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The only sources of time and randomness, so that `simulate` and tests can set both. */
#ifndef TINYLB_CLOCK_H
#define TINYLB_CLOCK_H

#include "config.h"
#include "maps.h"

/*
 * Nanoseconds of CLOCK_MONOTONIC as of the last tick, some milliseconds coarse. It is asked
 * once a tick: reading `jiffies` costs nothing, the coarse clock as much as a look-up.
 */
static __always_inline __u64 clock_now(void)
{
	__u32 zero = 0;
	struct test_input *input;
	struct tick *tick;
	__u64 jiffies;

	if (test_clock) {
		input = bpf_map_lookup_elem(&test_inputs, &zero);
		return input ? input->now : 0;
	}
	tick = bpf_map_lookup_elem(&ticks, &zero);
	if (!tick)
		return 0;
	jiffies = bpf_jiffies64();
	if (tick->jiffies != jiffies) {
		tick->jiffies = jiffies;
		tick->now = bpf_ktime_get_coarse_ns();
	}
	return tick->now;
}

static __always_inline __u32 random_u32(void)
{
	__u32 zero = 0;
	struct test_input *input;

	if (!test_clock)
		return bpf_get_prandom_u32();
	input = bpf_map_lookup_elem(&test_inputs, &zero);
	if (!input)
		return 0;
	/* Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 */
	__u64 z = (input->random += 0x9e3779b97f4a7c15ULL);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) >> 32;
}

#endif
