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
#include "quic.h"

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

/* The backend that has an entry of the service's table, which is not empty; 0: nobody. */
static __always_inline __u32 table_entry(__u32 offset, __u32 entry)
{
	__u32 chunk = (offset + entry) / TABLE_CHUNK;
	struct table_chunk *table = bpf_map_lookup_elem(&tables, &chunk);

	return table ? table->backend[entry % TABLE_CHUNK] : 0;
}

/* How far the second candidate is looked for: where nearly all entries are the first one's, that will do. */
#define OTHER_ENTRIES 256

struct other_search {
	__u32 offset;
	__u32 size;
	__u32 start;
	__u32 first;
	__u32 other; /* 0: none */
};

static long other_step(__u32 i, struct other_search *search)
{
	__u32 id;

	if (!search->size)
		return 1;
	id = table_entry(search->offset, (search->start + i) % search->size);
	if (id == search->first)
		return 0;
	search->other = id;
	return 1;
}

/* It has fewer flows than another one, for its weight. */
static __always_inline bool has_less(__u32 one, __u32 other)
{
	struct backend *a = bpf_map_lookup_elem(&backends, &one),
		       *b = bpf_map_lookup_elem(&backends, &other);
	struct backend_policy *asks_a = bpf_map_lookup_elem(&backend_policies, &one),
			      *asks_b = bpf_map_lookup_elem(&backend_policies, &other);
	struct flow_count *of_a, *of_b;

	if (!a || !b || !asks_a || !asks_b)
		return false;
	of_a = flow_count_of(one, a->generation);
	of_b = flow_count_of(other, b->generation);
	return of_a && of_b &&
	       (__u64)of_a->active * asks_b->weight < (__u64)of_b->active * asks_a->weight;
}

/*
 * The better of two (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): each is drawn by weight, as the table's entries
 * are, the second from those of the others. Verified by itself, like parse().
 */
__noinline __u32 select_least(const struct service *service)
{
	struct other_search search = {};

	if (!service || !service->table_size)
		return 0;
	search.offset = service->table_offset;
	search.size = service->table_size;
	search.first = table_entry(search.offset, random_u32() % search.size);
	search.start = random_u32() % search.size;
	bpf_loop(search.size < OTHER_ENTRIES ? search.size : OTHER_ENTRIES, other_step, &search, 0);
	return search.other && has_less(search.other, search.first) ? search.other : search.first;
}

/* The backend that the packet's connection id names; 0: none. */
static __always_inline __u32 packet_names(struct xdp_md *ctx, const struct packet *pkt,
					  __u32 service, const struct quic_layout *layout)
{
	if (!layout->id_length || pkt->tuple.protocol != IPPROTO_UDP)
		return 0;
	return quic_named(ctx, pkt->l4_offset + sizeof(struct udphdr),
			  pkt->l4_length - sizeof(struct udphdr), service, layout);
}

/* CPUs that race exceed it by their number. */
static __always_inline bool backend_is_full(__u32 id, const struct backend *backend)
{
	struct backend_policy *policy = bpf_map_lookup_elem(&backend_policies, &id);
	struct flow_count *count;

	if (!policy || !policy->max_flows)
		return false;
	count = flow_count_of(id, backend->generation);
	return count && *(volatile __u32 *)&count->active >= policy->max_flows;
}

/* Takes a backend of the service, unless it is full. */
static __always_inline bool select_take(struct packet *pkt, __u32 id)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	if (!backend || backend->service != pkt->backends.service)
		return false; /* the table was rebuilt under our feet */
	if (backend_is_full(id, backend)) {
		pkt->backends.full = id;
		return false;
	}
	pkt->backend = id;
	return true;
}

/* The same of an entry of the table, counted from where the search starts. */
static long select_step(__u32 i, struct packet **packet)
{
	struct packet *pkt = *packet;
	struct backend_search *search = &pkt->backends;
	__u32 entry = search->start + i, id;

	if (entry >= search->table_size)
		entry -= search->table_size;
	id = table_entry(search->table_offset, entry);
	return id != search->full && select_take(pkt, id);
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
	bpf_loop(size, select_step, &pkt, 0);
	if (pkt->backend)
		return true;
	rate->full_flows = *(volatile __u32 *)flows;
	rate->full_until = now + size * SELECT_RETRY_NS;
	return false;
}

/* The scheduler's choice; 0: there is none. Verified by itself, like parse(). */
__noinline __u32 select_id(struct packet *pkt, const struct service *service)
{
	__u32 random;

	if (!pkt || !service || !service->table_size)
		return 0;
	random = service->flags & SERVICE_RANDOM ? random_u32() : tuple_hash(&pkt->tuple);
	pkt->backends = (struct backend_search){
		.service = service->id,
		.table_offset = service->table_offset,
		.table_size = service->table_size,
		.start = random % service->table_size,
	};
	if (service->flags & SERVICE_LEAST_CONN)
		return select_least(service);
	return table_entry(service->table_offset, pkt->backends.start);
}

/* The scheduler's choice or, where that is full, the next one in the table; else false, and why. */
static __always_inline bool select_backend(struct packet *pkt, const struct service *service,
					   __u64 now)
{
	__u32 id = select_id(pkt, service);

	pkt->backend = 0;
	pkt->reason = REASON_NO_BACKEND;
	if (!id)
		return false;
	if (select_take(pkt, id) || select_next(pkt, now))
		return true;
	if (pkt->backends.full)
		pkt->reason = REASON_MAX_FLOWS_BACKEND;
	return false;
}

static __always_inline struct backend *packet_backend(const struct packet *pkt)
{
	__u32 id = pkt->backend;

	return bpf_map_lookup_elem(&backends, &id);
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

/* Verified by itself, like parse(). */
__noinline bool select_any(struct packet *pkt, const struct service *service,
			   const struct policy *policy, __u64 now)
{
	if (!pkt || !service || !policy)
		return false;
	if (policy->affinity_group && affinity_find(pkt, policy, now) &&
	    select_kept(pkt, service->id))
		return true;
	return select_backend(pkt, service, now);
}

/*
 * Whom a new flow goes to: pkt->backend. False: nobody, for pkt->reason. A connection that another backend has stays there, whatever
 * else is to be said. Verified by itself, like parse().
 */
__noinline bool choose_backend(struct xdp_md *ctx, struct packet *pkt,
			       const struct service *service, const struct policy *policy,
			       __u64 now)
{
	struct backend *backend;
	__u32 id;

	if (!pkt || !service || !policy)
		return false;
	id = packet_names(ctx, pkt, service->id, &service->quic);
	pkt->backend = id;
	if (!id && !select_any(pkt, service, policy, now))
		return false;
	pkt->reason = REASON_NO_NEXT_HOP;
	backend = packet_backend(pkt);
	if (!backend || !next_hop_of(backend))
		return false;
	/* another CPU may have given the client a backend just now */
	if (!id && policy->affinity_group && !affinity_keep(pkt, backend, policy, now))
		select_kept(pkt, service->id);
	return true;
}

/*
 * A datagram of a known flow is of a connection that another backend has: a client, or a NAT, has an address and port from where another connection came
 * before. Every datagram is for whom its connection id names.
 */
static __always_inline bool flow_is_of_another(struct xdp_md *ctx, const struct packet *pkt)
{
	struct backend *backend = flow_backend(pkt);
	__u32 named;

	if (!backend || !backend->quic.id_length || pkt->direction != FROM_CLIENT || pkt->flaw)
		return false;
	named = packet_names(ctx, pkt, backend->service, &backend->quic);
	return named && named != pkt->flow.backend;
}

#endif
