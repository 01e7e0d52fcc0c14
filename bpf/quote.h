/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an ICMP error quotes, and whose flow that is of. */
#ifndef TINYLB_QUOTE_H
#define TINYLB_QUOTE_H

#include "answer.h"
#include "flow.h"
#include "icmp.h"
#include "parse.h"
#include "path_mtu.h"
#include "select.h"
#include "service.h"

/* An error quotes so many bytes behind the IP header at least (RFC 792). */
#define QUOTED_AT_LEAST 8

#define ICMPV4_PARAMETER_PROBLEM 12
#define ICMPV6_PARAMETER_PROBLEM 4

/* That a packet had an end, and nothing else that quotes one. */
static __always_inline bool is_icmp_error(struct xdp_md *ctx, const struct packet *pkt)
{
	struct icmp_error *error = icmp_at(ctx, pkt);

	if (!error)
		return false;
	if (pkt->is_v6)
		return error->type >= ICMPV6_UNREACHABLE && error->type <= ICMPV6_PARAMETER_PROBLEM;
	return error->type == ICMPV4_UNREACHABLE || error->type == ICMPV4_TIME_EXCEEDED ||
	       error->type == ICMPV4_PARAMETER_PROBLEM;
}

static __always_inline void tuple_reverse(struct tuple *t)
{
	struct addr src = t->src;
	__be16 sport = t->sport;

	t->src = t->dst;
	t->dst = src;
	t->sport = t->dport;
	t->dport = sport;
}

/* False: it has none, or they are not quoted. */
static __always_inline bool quote_ports(struct xdp_md *ctx, struct packet *quote)
{
	__be16 *ports = packet_at(ctx, quote->l4_offset, QUOTED_AT_LEAST);

	if (!ports || quote->l4_length < QUOTED_AT_LEAST ||
	    quote->tuple.protocol == icmp_of(quote->is_v6))
		return false;
	quote->tuple.sport = ports[0];
	quote->tuple.dport = ports[1];
	return true;
}

/*
 * Reads it as if it was a packet. Its tuple becomes that of packets that answer it, as these are what flows are found
 * by; ports are zero where there are none. False: it is not to be believed. Verified by itself, like parse().
 */
__noinline bool quote_read(struct xdp_md *ctx, const struct packet *pkt, struct packet *quote)
{
	enum verdict verdict;

	if (!pkt || !quote || !may_answer(ctx, pkt))
		return false;
	packet_clear(quote);
	quote->is_v6 = pkt->is_v6;
	quote->l3_offset = pkt->l4_offset + sizeof(struct icmp_error);
	quote->length = pkt->l4_offset + pkt->l4_length; /* where it ends */
	if (quote->length < quote->l3_offset + ip_header_size(quote->is_v6) ||
	    parse_addresses(ctx, quote) != VERDICT_CONTINUE)
		return false;
	verdict = quote->is_v6 ? parse_ipv6(ctx, quote) : parse_ipv4(ctx, quote);
	quote->has_ports = verdict == VERDICT_CONTINUE && quote_ports(ctx, quote);
	tuple_reverse(&quote->tuple);
	return addr_equal(&quote->tuple.dst, &pkt->tuple.dst);
}

/* In a one-way mode another node may have sent the packet: all of them give the same answer. */
static __always_inline bool quote_schedule(struct packet *quote)
{
	struct service *service =
		service_at(&quote->tuple.dst, quote->tuple.dport, quote->tuple.protocol);
	struct backend *backend;

	if (!service || translates(service->forward) ||
	    service->flags & (SERVICE_RANDOM | SERVICE_LEAST_CONN))
		return false;
	quote->backend = select_id(quote, service);
	backend = packet_backend(quote);
	if (!backend || backend->service != service->id)
		return false;
	quote->direction = FROM_CLIENT;
	quote->slot = NO_SLOT;
	quote->service = service->id;
	quote->flow.life.forward = service->forward;
	quote->flow.backend = quote->backend;
	quote->flow.backend_generation = backend->generation;
	return true;
}

/* Finds the flow that the packet was of: quote->flow. Verified by itself, like parse(). */
__noinline bool quote_find(struct packet *quote, __u64 now)
{
	if (!quote || !quote->has_ports)
		return false;
	if (!flow_find(quote, now))
		return quote_schedule(quote);
	name_flow(quote, flow_backend(quote));
	return true;
}

/* What a router that did not know of path MTU discovery had most likely (RFC 1191, 7.1), if `length` was too much. */
static __always_inline __u32 plateau_below(__u32 length)
{
	static const __u16 plateaus[] = { 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296 };

#pragma unroll
	for (__u32 i = 0; i < sizeof(plateaus) / sizeof(*plateaus); i++)
		if (length > plateaus[i])
			return plateaus[i];
	return 68;
}

/* The MTU that the error tells of; 0: of none. */
static __always_inline __u32 error_mtu(const struct icmp_error *error, const struct packet *quote)
{
	__u32 mtu = bpf_ntohl(error->rest);

	if (quote->is_v6)
		return error->type == ICMPV6_PACKET_TOO_BIG ? mtu : 0;
	if (error->type != ICMPV4_UNREACHABLE || error->code != ICMPV4_FRAGMENTATION_NEEDED)
		return 0;
	return mtu & 0xffff ? mtu & 0xffff : plateau_below(quote->ip_length);
}

/* False: the quoted packet is none of a tunnel. */
static __always_inline bool tunnel_port(const struct packet *quote, __be16 *gue_port)
{
	*gue_port = quote->tuple.sport;
	return quote->has_ports ? quote->tuple.protocol == IPPROTO_UDP && *gue_port :
				  quote->tuple.protocol == IPPROTO_IPIP ||
					  quote->tuple.protocol == IPPROTO_IPV6;
}

/* About an outer packet of a tunnel: what its path takes is remembered, and the host may learn it, too. Verified by itself, like parse(). */
__noinline enum verdict tunnel_error(struct xdp_md *ctx, struct packet *pkt,
				     const struct packet *quote, __u64 now)
{
	struct tunnel_end end = { .bits = 8 * (sizeof(end) - sizeof(end.bits)) };
	struct backend *backend;
	struct icmp_error *error;
	__u32 *found, id, mtu;

	if (!pkt || !quote)
		return VERDICT_ABORTED;
	error = icmp_at(ctx, pkt);
	mtu = error ? error_mtu(error, quote) : 0;
	if (!mtu || !tunnel_port(quote, &end.gue_port))
		return VERDICT_PASS;
	end.backend = quote->tuple.src;
	end.source = quote->tuple.dst;
	found = bpf_map_lookup_elem(&tunnel_ends, &end);
	if (!found)
		return VERDICT_PASS;
	id = *found;
	backend = bpf_map_lookup_elem(&backends, &id);
	if (!backend || !backend->service || !addr_equal(&backend->address, &end.backend))
		return VERDICT_PASS;
	path_mtu_lower(backend, mtu, now);
	pkt->service = backend->service;
	pkt->backend = id;
	return leave(pkt, VERDICT_PASS, REASON_PATH_MTU);
}

#endif
