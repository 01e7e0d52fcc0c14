/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 4: may a new flow come? Known ones are not asked. */
#ifndef TINYLB_POLICY_H
#define TINYLB_POLICY_H

#include "bucket.h"
#include "count.h"
#include "hash.h"
#include "maps.h"
#include "packet.h"

/* Verified by itself, like parse(). */
__noinline bool source_may_come(const struct addr *source, const struct policy *policy)
{
	struct source_prefix key = { .bits = 8 * (sizeof(key) - sizeof(key.bits)) };
	enum source_rule *rule;

	if (!source || !policy)
		return false;
	key.rules = policy->source_rules;
	key.is_v6 = !addr_is_v4(source);
	key.address = *source;
	rule = bpf_map_lookup_elem(&source_rules, &key);
	return rule ? *rule == SOURCE_ALLOWED : !policy->only_allowed;
}

/* After a silence so many flows may come at once as else in a second. */
#define RATE_BURST_NS 1000000000ULL

/*
 * A token bucket as a leaky one (ITU-T I.371, generic cell rate algorithm): when the next flow is due after one that
 * comes now; 0: it comes too soon.
 */
static __always_inline __u64 rate_due(__u64 due, __u64 interval, __u64 now)
{
	if (due + interval > now + RATE_BURST_NS)
		return 0;
	return (due > now ? due : now) + interval;
}

/* Other CPUs take from the same bucket. Who fails as often as that takes nothing: each time another one did. */
#define RATE_TRIES 8

/* Verified by itself, like parse(). */
__noinline bool service_rate_allows(__u32 service, __u64 interval, __u64 now)
{
	struct service_rate *rate = bpf_map_lookup_elem(&service_rates, &service);
	__u64 was, due;

	if (!rate)
		return true;
#pragma unroll
	for (int i = 0; i < RATE_TRIES; i++) {
		was = *(volatile __u64 *)&rate->due;
		due = rate_due(was, interval, now);
		if (!due)
			return false;
		if (__sync_val_compare_and_swap(&rate->due, was, due) == was)
			return true;
	}
	return true;
}

static __always_inline bool client_rate_is(const struct client_rate *rate,
					   const struct addr *client, __u64 service)
{
	return rate->service == service && addr_equal(&rate->client, client);
}

/*
 * Under the bucket's lock. Where the client has no entry it gets that of whoever may open most flows by now, who so loses least: with
 * time all lose nothing, and who opens too many is the last to be forgotten.
 */
static __always_inline bool client_rate_take(struct client_bucket *bucket,
					     const struct addr *client, const struct policy *policy,
					     __u64 now)
{
	struct client_rate *rate, *mine = &bucket->rates[0];
	bool known = false;
	__u64 due;

#pragma unroll
	for (int i = 0; i < CLIENT_WAYS; i++) {
		rate = &bucket->rates[i];
		if (known)
			continue;
		known = client_rate_is(rate, client, policy->name);
		if (known || rate->due < mine->due)
			mine = rate;
	}
	due = rate_due(known ? mine->due : 0, policy->client_interval, now);
	if (!due)
		return false;
	mine->client = *client;
	mine->service = policy->name;
	mine->due = due;
	return true;
}

/* Verified by itself, like parse(). */
__noinline bool client_rate_allows(const struct addr *source, const struct policy *policy,
				   __u64 now)
{
	struct client_bucket *bucket;
	struct addr client;
	bool allows;
	__u32 index;

	if (!source || !policy)
		return false;
	client = addr_first_bits(source, addr_is_v4(source) ? policy->client_bits_v4 :
							      policy->client_bits_v6);
	index = below(hash_client(&client, policy->name) >> 32, client_bucket_count);
	bucket = bpf_map_lookup_elem(&client_buckets, &index);
	if (!bucket)
		return true;
	bpf_spin_lock(&bucket->lock);
	allows = client_rate_take(bucket, &client, policy, now);
	bpf_spin_unlock(&bucket->lock);
	return allows;
}

/* CPUs that race exceed it by their number. */
static __always_inline bool service_is_full(__u32 service, const struct policy *policy)
{
	__u32 *flows = bpf_map_lookup_elem(&service_flow_counts, &service);

	return policy->max_flows && flows && *(volatile __u32 *)flows >= policy->max_flows;
}

/*
 * Why a new flow may not come; REASON_NONE: it may. One client's rate before that of all, so that it does not use up what is for
 * others; and nothing of either where there is no room anyway.
 */
static __always_inline enum reason policy_refuses(const struct packet *pkt,
						  const struct policy *policy, __u64 now)
{
	if (service_is_full(pkt->service, policy))
		return REASON_MAX_FLOWS_SERVICE;
	if (policy->client_interval && !client_rate_allows(&pkt->tuple.src, policy, now))
		return REASON_CLIENT_RATE;
	if (policy->interval && !service_rate_allows(pkt->service, policy->interval, now))
		return REASON_SERVICE_RATE;
	return REASON_NONE;
}

#endif
