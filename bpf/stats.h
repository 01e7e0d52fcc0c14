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
	bool is_parcel;
	bool to_client; /* an ICMP error */
};

/* For its backend: also an error about a packet of a flow, where it could be sent on. */
static __always_inline bool counts_for_backend(const struct outcome *outcome)
{
	return is_forwarded(outcome->reason) ||
	       (outcome->reason == REASON_ICMP_ERROR && outcome->verdict != VERDICT_DROP);
}

static __always_inline void count_backend(const struct outcome *outcome)
{
	struct backend_counters *counters;
	__u32 id = outcome->backend;

	counters = bpf_map_lookup_elem(&all_backend_counters, &id);
	if (!counters)
		return;
	if (outcome->reason == REASON_REPLY ||
	    (outcome->reason == REASON_ICMP_ERROR && outcome->to_client)) {
		counters->packets_out++;
		counters->bytes_out += outcome->length;
		return;
	}
	counters->packets_in++;
	counters->bytes_in += outcome->length;
	if (outcome->reason == REASON_NEW_FLOW || outcome->reason == REASON_NEW_FLOW_SNAT)
		counters->flows++;
}

static __always_inline void count_reason(const struct outcome *outcome)
{
	struct reason_counters *counters;
	__u32 id = outcome->service;

	counters = bpf_map_lookup_elem(&all_reason_counters, &id);
	if (counters)
		counters->packets[outcome->reason % REASON_SLOTS]++;
}

static __always_inline int finish(struct outcome outcome)
{
	struct decision *decision;
	__u32 zero = 0;

	count_reason(&outcome);
	if (counts_for_backend(&outcome))
		count_backend(&outcome);
	if (record_decisions) {
		decision = bpf_map_lookup_elem(&decisions, &zero);
		if (decision)
			*decision = (struct decision){
				.verdict = outcome.verdict,
				.reason = outcome.reason,
				.service = outcome.service,
				.backend = outcome.backend,
				.is_parcel = outcome.is_parcel,
			};
	}
	return outcome.is_parcel ? XDP_PASS : outcome.verdict;
}

#endif
