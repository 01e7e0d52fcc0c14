/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 5: a new flow gets its backend. */
#ifndef TINYLB_SELECT_H
#define TINYLB_SELECT_H

#include "affinity.h"
#include "clock.h"
#include "count.h"
#include "flow.h"
#include "maps.h"
#include "next_hop.h"
#include "packet.h"

/* Depends on the packet alone, so that every node gives the same answer. */
static __always_inline __u32 tuple_hash(const struct tuple *t)
{
	__u64 h = t->protocol | (__u64)t->sport << 16 | (__u64)t->dport << 32;

	for (int i = 0; i < 4; i++)
		h = (h ^ ((__u64)t->src.word[i] << 32 | t->dst.word[i])) * 0x9e3779b97f4a7c15ULL;
	/* the finalizer of MurmurHash3 (Appleby): every input bit reaches every output bit */
	h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdULL;
	h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ULL;
	return h ^ (h >> 33);
}

/* CPUs that race exceed it by their number. */
static __always_inline bool backend_is_full(__u32 id, const struct backend *backend)
{
	struct flow_count *count = flow_count_of(id, backend->generation);

	return backend->max_flows && count &&
	       *(volatile __u32 *)&count->active >= backend->max_flows;
}

/* Takes the backend of an entry of the table, counted from where the search starts, unless it is full. */
static long select_step(__u32 i, struct packet **packet)
{
	struct packet *pkt = *packet;
	struct backend_search *search = &pkt->backends;
	__u32 entry = search->start + i, chunk, id;
	struct table_chunk *table;
	struct backend *backend;

	if (entry >= search->table_size)
		entry -= search->table_size;
	chunk = (search->table_offset + entry) / TABLE_CHUNK;
	table = bpf_map_lookup_elem(&tables, &chunk);
	if (!table)
		return 0;
	id = table->backend[entry % TABLE_CHUNK];
	if (id == search->full)
		return 0;
	backend = bpf_map_lookup_elem(&backends, &id);
	if (!backend || backend->service != search->service)
		return 0; /* the table was rebuilt under our feet */
	if (backend_is_full(id, backend)) {
		search->full = id;
		return 0;
	}
	pkt->backend = id;
	return 1;
}

/* A search that found all backends full is believed for so long per entry: some ten times what it took. */
#define SELECT_RETRY_NS 100ULL

/* None has ended since all backends were seen to be full. */
static __always_inline bool all_are_full(const struct service_rate *rate, __u32 flows, __u64 now)
{
	return now < rate->full_until && flows >= rate->full_flows;
}

/* Goes on to the next entries of the table. */
static __always_inline bool select_next(struct packet *pkt, __u64 now)
{
	__u32 service = pkt->backends.service, size = pkt->backends.table_size;
	struct service_rate *rate = bpf_map_lookup_elem(&service_rates, &service);
	__u32 *flows = bpf_map_lookup_elem(&service_flow_counts, &service);

	if (!rate || !flows || all_are_full(rate, *(volatile __u32 *)flows, now))
		return false;
	pkt->backends.start++;
	bpf_loop(size - 1, select_step, &pkt, 0);
	if (pkt->backend)
		return true;
	rate->full_flows = *(volatile __u32 *)flows;
	rate->full_until = now + size * SELECT_RETRY_NS;
	return false;
}

/* The scheduler's choice or, where that is full, the next one in the table; else false, and why. */
static __always_inline bool select_backend(struct packet *pkt, const struct service *service,
					   __u64 now)
{
	__u32 random;

	pkt->backend = 0;
	pkt->reason = REASON_NO_BACKEND;
	if (!service->table_size)
		return false;
	random = service->flags & SERVICE_RANDOM ? random_u32() : tuple_hash(&pkt->tuple);
	pkt->backends = (struct backend_search){
		.service = service->id,
		.table_offset = service->table_offset,
		.table_size = service->table_size,
		.start = random % service->table_size,
	};
	if (select_step(0, &pkt) || select_next(pkt, now))
		return true;
	if (pkt->backends.full)
		pkt->reason = REASON_MAX_FLOWS_BACKEND;
	return false;
}

/* New flows of a service can go there. */
static __always_inline bool backend_takes(__u32 id, __u32 service)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->service == service && backend->flags & BACKEND_TAKES_FLOWS &&
	       next_hop_of(backend) && !backend_is_full(id, backend);
}

/* The one that the packet's client keeps or, where that is another service's or takes no flows, one with its address. */
static __always_inline bool select_kept(struct packet *pkt, __u32 service)
{
	struct backend_key key = { .service = service, .address = pkt->affinity.address };
	__u32 id = pkt->affinity.backend;
	__u32 *same;

	if (backend_of(id, pkt->affinity.generation) && backend_takes(id, service)) {
		pkt->backend = id;
		return true;
	}
	same = bpf_map_lookup_elem(&affinity_backends, &key);
	id = same ? *same : 0;
	if (!id || !backend_takes(id, service))
		return false;
	pkt->backend = id;
	return true;
}

/* Whom a new flow goes to: pkt->backend. False: nobody, for pkt->reason. Verified by itself, like parse(). */
__noinline bool choose_backend(struct packet *pkt, const struct service *service,
			       const struct policy *policy, __u64 now)
{
	struct backend *backend;
	bool keeps;
	__u32 id;

	if (!pkt || !service || !policy)
		return false;
	keeps = policy->affinity_group && affinity_find(pkt, policy, now) &&
		select_kept(pkt, service->id);
	if (!keeps && !select_backend(pkt, service, now))
		return false;
	id = pkt->backend;
	backend = bpf_map_lookup_elem(&backends, &id);
	pkt->reason = REASON_NO_NEXT_HOP;
	if (!backend || !next_hop_of(backend))
		return false;
	/* another CPU may have given the client a backend just now */
	if (policy->affinity_group && !affinity_keep(pkt, backend, policy, now))
		select_kept(pkt, service->id);
	return true;
}

#endif
