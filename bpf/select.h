/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 5: a new flow gets its backend. */
#ifndef TINYLB_SELECT_H
#define TINYLB_SELECT_H

#include "clock.h"
#include "maps.h"
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

static __always_inline struct backend *select_backend(struct packet *pkt,
						      const struct service *service)
{
	__u32 random, entry, chunk, id;
	struct table_chunk *table;
	struct backend *backend;

	if (!service->table_size)
		return NULL;
	random = service->flags & SERVICE_RANDOM ? random_u32() : tuple_hash(&pkt->tuple);
	entry = random % service->table_size;
	chunk = (service->table_offset + entry) / TABLE_CHUNK;
	table = bpf_map_lookup_elem(&tables, &chunk);
	if (!table)
		return NULL;
	id = pkt->backend = table->backend[entry % TABLE_CHUNK];
	backend = bpf_map_lookup_elem(&backends, &id);
	/* another service's: the table was rebuilt under our feet */
	return backend && backend->service == service->id ? backend : NULL;
}

#endif
