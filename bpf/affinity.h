/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Clients that keep their backend over flows, and over the services of a group. An entry lies in one of the few places of a bucket
 * that a hash names, keyed by what only this host knows: nobody can make up clients that drive another one out.
 */
#ifndef TINYLB_AFFINITY_H
#define TINYLB_AFFINITY_H

#include "bucket.h"
#include "hash.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct affinity_bucket *affinity_bucket_of(const struct affinity *a)
{
	__u32 index = below(hash_client(&a->client, a->group) >> 32, affinity_bucket_count);

	return bpf_map_lookup_elem(&affinity_buckets, &index);
}

static __always_inline bool affinity_is(const struct affinity *a, const struct affinity *b)
{
	return a->group == b->group && addr_equal(&a->client, &b->client);
}

/* Of an entry that is to be looked for. */
static __always_inline void affinity_name(struct affinity *a, const struct addr *source,
					  const struct policy *policy)
{
	a->client = addr_first_bits(source, addr_is_v4(source) ? policy->affinity_bits_v4 :
								 policy->affinity_bits_v6);
	a->group = policy->affinity_group;
}

/* Completes pkt->affinity. False: the client has no entry, or its time is over. Verified by itself, like parse(). */
__noinline bool affinity_find(struct packet *pkt, const struct policy *policy, __u64 now)
{
	struct affinity_bucket *bucket;
	bool found = false;

	if (!pkt || !policy)
		return false;
	affinity_name(&pkt->affinity, &pkt->tuple.src, policy);
	pkt->affinity.until = 0;
	bucket = affinity_bucket_of(&pkt->affinity);
	if (!bucket)
		return false;
	bpf_spin_lock(&bucket->lock);
#pragma unroll
	for (int i = 0; i < CLIENT_WAYS; i++) {
		if (found || !affinity_is(&bucket->kept[i], &pkt->affinity))
			continue;
		pkt->affinity = bucket->kept[i];
		found = true;
	}
	bpf_spin_unlock(&bucket->lock);
	return found && pkt->affinity.until > now;
}

/* The entry to write: the client's own or, of the others in the bucket, the one that is over first. */
static __always_inline struct affinity *affinity_place(struct affinity_bucket *bucket,
						       const struct affinity *wanted)
{
	struct affinity *kept, *place = &bucket->kept[0];
	bool known = false;

#pragma unroll
	for (int i = 0; i < CLIENT_WAYS; i++) {
		kept = &bucket->kept[i];
		if (known)
			continue;
		known = affinity_is(kept, wanted);
		if (known || kept->until < place->until)
			place = kept;
	}
	return place;
}

/*
 * The client keeps the packet's backend from now on. False: since its entry was looked for another CPU has given it another
 * one, which is in pkt->affinity now. Verified by itself, like parse().
 */
__noinline bool affinity_keep(struct packet *pkt, const struct backend *backend,
			      const struct policy *policy, __u64 now)
{
	struct affinity_bucket *bucket;
	struct affinity *place;
	bool keeps;

	if (!pkt || !backend || !policy)
		return true;
	bucket = affinity_bucket_of(&pkt->affinity);
	if (!bucket)
		return true;
	bpf_spin_lock(&bucket->lock);
	place = affinity_place(bucket, &pkt->affinity);
	keeps = !affinity_is(place, &pkt->affinity) || place->until == pkt->affinity.until ||
		place->until <= now || place->backend == pkt->backend;
	if (keeps) {
		place->client = pkt->affinity.client;
		place->group = pkt->affinity.group;
		place->until = now + policy->affinity_timeout;
		place->address = backend->address;
		place->backend = pkt->backend;
		place->generation = backend->generation;
	} else {
		pkt->affinity = *place;
	}
	bpf_spin_unlock(&bucket->lock);
	return keeps;
}

#endif
