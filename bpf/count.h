/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many flows a backend has, and a service: those in the table that are not closed. Whoever opens a flow, sees its end or clears
 * it does one atomic addition for each, so the counts need no daemon. A backend's id that has become another's counts elsewhere, by
 * the generation's last bit: flows of the one before are soon cleared.
 */
#ifndef TINYLB_COUNT_H
#define TINYLB_COUNT_H

#include "maps.h"
#include <stdbool.h>

static __always_inline struct flow_count *flow_count_of(__u32 backend, __u32 generation)
{
	__u32 index = 2 * backend + (generation & 1);

	return bpf_map_lookup_elem(&flow_counts, &index);
}

static __always_inline void service_count_change(__u32 service, __u32 by)
{
	__u32 *count = bpf_map_lookup_elem(&service_flow_counts, &service);

	if (count)
		__sync_fetch_and_add(count, by);
}

/* A flow that is not closed is about to be in the table. Verified by itself, like parse(). */
__noinline int flow_count_up(__u32 backend, __u32 generation, __u32 service)
{
	struct flow_count *count = flow_count_of(backend, generation);
	__u32 was;

	if (!count)
		return 0;
	was = *(volatile __u32 *)&count->service;
	if (was != service && __sync_val_compare_and_swap(&count->service, was, service) == was) {
		/* none, but where an id has had three owners since the last sweep */
		service_count_change(was, -count->active);
		service_count_change(service, count->active);
	}
	__sync_fetch_and_add(&count->active, 1);
	service_count_change(service, 1);
	return 0;
}

/* It is closed, or in the table no more. Verified by itself, like parse(). */
__noinline int flow_count_down(__u32 backend, __u32 generation)
{
	struct flow_count *count = flow_count_of(backend, generation);

	if (!count)
		return 0;
	service_count_change(*(volatile __u32 *)&count->service, -1);
	__sync_fetch_and_add(&count->active, -1);
	return 0;
}

static __always_inline bool flow_counts_phase(enum flow_phase phase)
{
	return phase != PHASE_FREE && phase != PHASE_TCP_CLOSED;
}

#endif
