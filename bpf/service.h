/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stage 3: is the destination a service? */
#ifndef TINYLB_SERVICE_H
#define TINYLB_SERVICE_H

#include "maps.h"
#include "packet.h"

/* The service that has this port alone. */
static __always_inline struct service *service_on_port(const struct addr *address, __be16 port,
						       __u8 protocol)
{
	struct service_key key = { .address = *address, .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&services, &key);
}

/* The most specific service that has this port. One key for both look-ups: the stack is small. */
static __always_inline struct service *service_at(const struct addr *address, __be16 port,
						  __u8 protocol)
{
	struct service_block block = {
		.bits = 8 * sizeof(block.key),
		.key = { .address = *address, .port = port, .protocol = protocol },
	};
	struct service *service = bpf_map_lookup_elem(&services, &block.key);

	return service ? service : bpf_map_lookup_elem(&service_blocks, &block);
}

/* The id of a backend that has gone, and of its service, may be a stranger's by now. */
static __always_inline void name_flow(struct packet *pkt, const struct backend *backend)
{
	const struct tuple *request = pkt->direction == FROM_CLIENT ? &pkt->tuple : &pkt->other;
	struct service *service;

	if (backend) {
		pkt->service = backend->service;
		pkt->backend = pkt->flow.backend;
		return;
	}
	service = service_at(&request->dst, request->dport, request->protocol);
	if (service)
		pkt->service = service->id;
}

/* A packet of a service that cannot be forwarded as it is. */
static __always_inline enum verdict refuse_flawed(struct packet *pkt)
{
	return leave(pkt, pkt->flaw == REASON_TRUNCATED ? VERDICT_ABORTED : VERDICT_DROP,
		     pkt->flaw);
}

#endif
