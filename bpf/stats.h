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

static __always_inline void count_backend(const struct packet *pkt)
{
	struct backend_counters *counters;
	__u32 id = pkt->backend;

	counters = bpf_map_lookup_elem(&all_backend_counters, &id);
	if (!counters)
		return;
	if (pkt->reason == REASON_REPLY) {
		counters->packets_out++;
		counters->bytes_out += pkt->length;
		return;
	}
	counters->packets_in++;
	counters->bytes_in += pkt->length;
	if (pkt->reason != REASON_FORWARDED)
		counters->flows++;
}

static __always_inline void count_reason(const struct packet *pkt)
{
	struct reason_counters *counters;
	__u32 id = pkt->service;

	counters = bpf_map_lookup_elem(&all_reason_counters, &id);
	if (counters)
		counters->packets[pkt->reason % REASON_SLOTS]++;
}

static __always_inline int finish(const struct packet *pkt, enum verdict verdict)
{
	struct decision *decision;
	__u32 zero = 0;

	count_reason(pkt);
	if (is_forwarded(pkt->reason))
		count_backend(pkt);
	if (record_decisions) {
		decision = bpf_map_lookup_elem(&decisions, &zero);
		if (decision)
			*decision = (struct decision){
				.verdict = verdict,
				.reason = pkt->reason,
				.service = pkt->service,
				.backend = pkt->backend,
			};
	}
	return verdict;
}

#endif
