/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 5: a new flow gets its backend. */
#ifndef TINYLB_SELECT_H
#define TINYLB_SELECT_H

#include "clock.h"
#include "flow.h"
#include "maps.h"
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
	struct flow_count *of_a, *of_b;

	if (!a || !b)
		return false;
	of_a = flow_count_of(one, a->generation);
	of_b = flow_count_of(other, b->generation);
	return of_a && of_b && (__u64)of_a->active * b->weight < (__u64)of_b->active * a->weight;
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

/* Its id; 0: there is none. Verified by itself, like parse(). */
__noinline __u32 select_id(struct xdp_md *ctx, const struct packet *pkt,
			   const struct service *service)
{
	__u32 id, random;

	if (!pkt || !service)
		return 0;
	id = packet_names(ctx, pkt, service->id, &service->quic);
	if (id || !service->table_size)
		return id;
	if (service->flags & SERVICE_LEAST_CONN)
		return select_least(service);
	random = service->flags & SERVICE_RANDOM ? random_u32() : tuple_hash(&pkt->tuple);
	return table_entry(service->table_offset, random % service->table_size);
}

static __always_inline struct backend *select_backend(struct xdp_md *ctx, struct packet *pkt,
						      const struct service *service)
{
	__u32 id = select_id(ctx, pkt, service);
	struct backend *backend;

	pkt->backend = id;
	backend = bpf_map_lookup_elem(&backends, &id);
	/* another service's: the table was rebuilt under our feet */
	return backend && backend->service == service->id ? backend : NULL;
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
