/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 7: the one exit. Every packet is counted here, once. */
#ifndef TINYLB_STATS_H
#define TINYLB_STATS_H

#include "config.h"
#include "maps.h"
#include "packet.h"

/* Not so what we say ourselves. */
static __always_inline bool is_forwarded(enum reason reason)
{
	return reason == REASON_NEW_FLOW || reason == REASON_NEW_FLOW_SNAT ||
	       reason == REASON_FORWARDED || reason == REASON_REPLY;
}

/* What became of a packet. */
struct outcome {
	enum verdict verdict;
	enum reason reason;
	__u32 service;
	__u32 backend;
	__u32 length;
};

static __always_inline void count_backend(const struct outcome *outcome)
{
	struct backend_counters *counters;
	__u32 id = outcome->backend;

	counters = bpf_map_lookup_elem(&all_backend_counters, &id);
	if (!counters)
		return;
	if (outcome->reason == REASON_REPLY) {
		counters->packets_out++;
		counters->bytes_out += outcome->length;
		return;
	}
	counters->packets_in++;
	counters->bytes_in += outcome->length;
	if (outcome->reason != REASON_FORWARDED)
		counters->flows++;
}

static __always_inline int finish(struct outcome outcome)
{
	__u32 index = outcome.service * REASON_SLOTS + outcome.reason;
	struct decision *decision;
	__u64 *packets;

	packets = bpf_map_lookup_elem(&reason_counters, &index);
	if (packets)
		*packets += 1;
	if (is_forwarded(outcome.reason))
		count_backend(&outcome);
	if (record_decisions) {
		index = 0;
		decision = bpf_map_lookup_elem(&decisions, &index);
		if (decision)
			*decision = (struct decision){
				.verdict = outcome.verdict,
				.reason = outcome.reason,
				.service = outcome.service,
				.backend = outcome.backend,
			};
	}
	return outcome.verdict;
}

#endif
