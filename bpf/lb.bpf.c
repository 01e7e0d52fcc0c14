// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tinylb's data plane: one XDP program. Read process() first; each stage lives
 * in the header of its name. ARCHITECTURE.md, "A packet's way", tells the story.
 */
#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "cut.h"
#include "echo.h"
#include "error.h"
#include "fast.h"
#include "flow.h"
#include "frag.h"
#include "icmp.h"
#include "maps.h"
#include "mss.h"
#include "mtu.h"
#include "nat.h"
#include "neighbour.h"
#include "next_hop.h"
#include "open.h"
#include "packet.h"
#include "parcel.h"
#include "parse.h"
#include "policy.h"
#include "quote.h"
#include "reset.h"
#include "select.h"
#include "service.h"
#include "stats.h"
#include "tunnel.h"
#include "types.h"

/* nat and dnat are hops on the packet's way, and so may be part of a loop. */
static __always_inline bool ttl_is_over(struct xdp_md *ctx, const struct packet *pkt,
					enum forward_mode forward)
{
	__u32 at = pkt->is_v6 ? offsetof(struct ipv6hdr, hop_limit) : offsetof(struct iphdr, ttl);
	__u8 *ttl = packet_at(ctx, pkt->l3_offset + at, sizeof(*ttl));

	return translates(forward) && ttl && *ttl <= 1;
}

static __always_inline enum verdict known_flow(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct backend *backend = flow_backend(pkt);

	name_flow(pkt, backend);
	if (pkt->flaw)
		return refuse_flawed(pkt);
	if (!backend)
		return leave(pkt, VERDICT_DROP, REASON_BACKEND_GONE);
	if (ttl_is_over(ctx, pkt, pkt->flow.life.forward))
		return leave(pkt, VERDICT_ANSWER, REASON_TTL_EXPIRED);
	flow_track(pkt, now);
	pkt->reason = pkt->direction == FROM_CLIENT ? REASON_FORWARDED : REASON_REPLY;
	return VERDICT_CONTINUE;
}

/* Whom a new flow goes to. */
static __always_inline enum verdict new_flow(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct service *service;
	struct policy *policy;
	enum reason refusal;
	__u32 id;

	pkt->direction = FROM_CLIENT;
	flow_touch(pkt->hash);
	service = service_at(&pkt->tuple.dst, pkt->tuple.dport, pkt->tuple.protocol);
	if (!service)
		return leave(pkt, VERDICT_PASS, pkt->flaw ? pkt->flaw : REASON_NOT_OURS);
	pkt->service = service->id;
	pkt->forward = service->forward;
	if (pkt->flaw)
		return refuse_flawed(pkt);
	id = service->id;
	policy = bpf_map_lookup_elem(&policies, &id);
	if (!policy)
		return VERDICT_ABORTED;
	if (policy->source_rules && !source_may_come(&pkt->tuple.src, policy))
		return leave(pkt, VERDICT_DROP, REASON_SOURCE_DENIED);
	/* in the other modes a flow that another node knew goes on: maglev is of one mind */
	if (pkt->forward == FORWARD_NAT && !opens_flow(pkt))
		return leave(pkt, VERDICT_ANSWER, REASON_NO_FLOW);
	if (ttl_is_over(ctx, pkt, pkt->forward))
		return leave(pkt, VERDICT_ANSWER, REASON_TTL_EXPIRED);
	refusal = policy_refuses(pkt, policy, now);
	if (refusal)
		return leave(pkt, VERDICT_DROP, refusal);
	if (choose_backend(ctx, pkt, service, policy, now))
		return VERDICT_OPEN;
	return pkt->reason == REASON_NO_BACKEND && !(service->flags & SERVICE_SILENT) ?
		       VERDICT_ANSWER :
		       VERDICT_DROP;
}

/* Verified by itself, like parse(). */
__noinline enum verdict decide(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	bool known;

	if (!pkt)
		return VERDICT_ABORTED;
	known = flow_find(pkt, now);
	if (known && (flow_superseded(pkt) || flow_is_of_another(ctx, pkt))) {
		flow_replace(pkt);
		known = false;
	}
	pkt->known = known;
	return known ? known_flow(ctx, pkt, now) : new_flow(ctx, pkt, now);
}

static __always_inline enum verdict open_flow(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	__u32 id = pkt->backend;
	struct backend *backend;

	backend = bpf_map_lookup_elem(&backends, &id);
	if (!backend)
		return VERDICT_ABORTED;
	pkt->place = NO_SLOT;
	if (translates(pkt->forward)) {
		/* a port before any flow loses its slot: there may be none */
		pkt->place = answer_choose(pkt, backend, now);
		if (pkt->place == NO_SLOT)
			return VERDICT_DROP;
	} else {
		answer_begin(pkt, backend);
	}
	switch (flow_open(ctx, pkt, backend, now)) {
	case OPENED_NOTHING:
		return VERDICT_DROP;
	case OPENED_ALREADY:
		return known_flow(ctx, pkt, now);
	case OPENED_NEW:
		break;
	}
	pkt->reason = pkt->source_nat && pkt->forward == FORWARD_DNAT ? REASON_NEW_FLOW_SNAT :
									REASON_NEW_FLOW;
	return VERDICT_CONTINUE;
}

/* False: it cannot be, for pkt->reason. */
static __always_inline bool rewrite(struct xdp_md *ctx, struct packet *pkt,
				    const struct backend *backend)
{
	enum forward_mode forward = pkt->flow.life.forward;

	if (translates(forward))
		return pkt->is_error ? error_translate(ctx, pkt) :
				       nat_rewrite(ctx, pkt, &pkt->other);
	if (forward == FORWARD_DSR)
		return l4_complete(ctx, pkt);
	return tunnel_rewrite(ctx, pkt, backend, forward == FORWARD_GUE);
}

/* Verified by itself, like parse(). */
__noinline enum verdict forward(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct next_hop *toward;
	struct backend *backend;
	enum verdict verdict;

	if (!pkt)
		return VERDICT_ABORTED;
	backend = flow_backend(pkt);
	if (!backend) /* since a moment ago */
		return leave(pkt, VERDICT_DROP, REASON_BACKEND_GONE);
	if (!eth)
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	if (pkt->direction == FROM_CLIENT) {
		if (translates(pkt->flow.life.forward) && !pkt->is_error)
			flow_learn(pkt, eth, ctx->ingress_ifindex);
		toward = next_hop_of(backend);
		if (!toward)
			return leave(pkt, VERDICT_DROP, REASON_NO_NEXT_HOP);
		pkt->hop = *toward;
	} else {
		next_hop_to_client(&pkt->flow, &pkt->hop);
		pkt->hop.mtu = interface_mtu(pkt->hop.interface);
	}
	/* nothing is ever said about an error */
	if (!pkt->is_error &&
	    judge_length(ctx, pkt, backend, pkt->hop.mtu, now) != VERDICT_CONTINUE)
		return VERDICT_ANSWER;
	if (backend->mss && pkt->tcp_flags & TCP_SYN)
		mss_clamp(ctx, pkt, backend, pkt->hop.mtu, now);
	next_hop_complete(&pkt->hop, ctx, eth, pkt->vlan);
	if (pkt->is_fragment)
		return VERDICT_LATER;
	if ((pkt->cut_to && !l4_complete(ctx, pkt)) || !rewrite(ctx, pkt, backend))
		return leave(pkt, VERDICT_DROP,
			     is_forwarded(pkt->reason) ? REASON_TOO_BIG : pkt->reason);
	verdict = send(ctx, pkt, &pkt->hop);
	if (pkt->cut_to && verdict != VERDICT_DROP && !cut_up(ctx, pkt, pkt->hop.interface, now))
		return leave(pkt, VERDICT_DROP, REASON_MTU_EXCEEDED);
	return verdict;
}

/* An error about a packet of ours goes to whoever sent that to us. */
static __always_inline enum verdict error_about(struct xdp_md *ctx, struct packet *pkt,
						const struct packet *quote)
{
	struct backend *backend = flow_backend(quote);

	pkt->flow = quote->flow;
	pkt->other = quote->other;
	pkt->slot = quote->slot;
	pkt->direction = quote->direction;
	pkt->service = quote->service;
	pkt->backend = quote->backend;
	pkt->is_error = true;
	if (!backend)
		return leave(pkt, VERDICT_DROP, REASON_BACKEND_GONE);
	if (ttl_is_over(ctx, pkt, pkt->flow.life.forward))
		return leave(pkt, VERDICT_DROP, REASON_TTL_EXPIRED);
	if (!translates(pkt->flow.life.forward))
		pkt->tuple = quote->tuple; /* it goes the way of the flow's packets */
	return leave(pkt, VERDICT_CONTINUE, REASON_ICMP_ERROR);
}

/* Verified by itself, like parse(). */
__noinline enum verdict icmp_arrived(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct packet *quote = quoted_packet();

	if (!pkt || !quote)
		return VERDICT_ABORTED;
	if (is_echo_request(ctx, pkt))
		return echo_answer(ctx, pkt, now);
	if (!is_icmp_error(ctx, pkt) || !quote_read(ctx, pkt, quote))
		return VERDICT_PASS;
	if (quote_find(quote, now))
		return error_about(ctx, pkt, quote);
	return tunnel_error(ctx, pkt, quote, now);
}

/* Tells the sender, unless that is too much to ask. Verified by itself, like parse(). */
__noinline enum verdict answer(struct xdp_md *ctx, struct packet *pkt, const struct addr *from,
			       __u64 now)
{
	bool answered;

	if (!pkt || !from || !may_answer(ctx, pkt))
		return VERDICT_DROP;
	if (pkt->reason == REASON_TTL_EXPIRED)
		answered = time_exceeded(ctx, pkt, from, now);
	else if (pkt->reason == REASON_MTU_EXCEEDED)
		answered = fragmentation_needed(ctx, pkt, from, now);
	else if (pkt->tuple.protocol == IPPROTO_TCP)
		answered = reset_answer(ctx, pkt, now);
	else
		answered = port_unreachable(ctx, pkt, from, now);
	return answered ? send_back(ctx) : VERDICT_DROP;
}

/* A later fragment of a datagram that goes on with a flow. */
static __always_inline enum verdict known_fragment(struct xdp_md *ctx, struct packet *pkt)
{
	struct backend *backend;

	if (!fragment_read_flow(pkt))
		return leave(pkt, VERDICT_DROP, REASON_NO_FLOW);
	backend = flow_backend(pkt);
	name_flow(pkt, backend);
	if (pkt->flaw)
		return refuse_flawed(pkt);
	if (!backend)
		return leave(pkt, VERDICT_DROP, REASON_BACKEND_GONE);
	if (ttl_is_over(ctx, pkt, pkt->flow.life.forward))
		return leave(pkt, VERDICT_ANSWER, REASON_TTL_EXPIRED);
	pkt->reason = pkt->direction == FROM_CLIENT ? REASON_FORWARDED : REASON_REPLY;
	return VERDICT_LATER;
}

/*
 * What its datagram says of a fragment; of a first one, what parse() does, if the ports are not in it. Verified by itself,
 * like parse().
 */
__noinline enum verdict decide_fragment(struct xdp_md *ctx, struct packet *pkt, enum verdict parsed,
					__u64 now)
{
	enum verdict verdict;

	if (!pkt)
		return VERDICT_ABORTED;
	verdict = fragment_arrive(ctx, pkt, now);
	if (verdict == VERDICT_CONTINUE && parsed == VERDICT_PASS)
		return parsed;
	return verdict == VERDICT_LATER ? known_fragment(ctx, pkt) : verdict;
}

static __always_inline enum verdict process(struct xdp_md *ctx, struct packet *pkt)
{
	enum verdict verdict;
	__u64 now;

	verdict = parse(ctx, pkt);
	if (may_ask(pkt) && neighbour_answer(ctx, pkt))
		return leave_by(ctx, ctx->ingress_ifindex);
	now = clock_now();
	if (pkt->is_fragment)
		verdict = decide_fragment(ctx, pkt, verdict, now);
	if (verdict == VERDICT_CONTINUE)
		verdict = decide(ctx, pkt, now);
	else if (verdict == VERDICT_ICMP)
		verdict = icmp_arrived(ctx, pkt, now);
	if (verdict == VERDICT_OPEN)
		verdict = open_flow(ctx, pkt, now);
	if (verdict == VERDICT_CONTINUE || verdict == VERDICT_LATER)
		verdict = forward(ctx, pkt, now);
	if (verdict == VERDICT_LATER)
		verdict = fragment_forward(ctx, pkt, now);
	if (verdict == VERDICT_ANSWER)
		verdict = answer(ctx, pkt, our_address(pkt), now);
	return pkt->is_fragment ? fragment_done(ctx, pkt, verdict, now) : verdict;
}

/* All stages, for any packet. Verified by itself, like parse(). */
__noinline int long_way(struct xdp_md *ctx)
{
	__u32 index = PACKET_IN_HAND;
	struct packet *pkt = bpf_map_lookup_elem(&packets, &index);
	enum verdict verdict;

	if (!pkt)
		return XDP_ABORTED;
	packet_clear(pkt);
	verdict = process(ctx, pkt);
	return finish((struct outcome){
		.verdict = verdict,
		.reason = pkt->reason,
		.service = pkt->service,
		.backend = pkt->backend,
		.length = pkt->length,
		.is_parcel = pkt->is_parcel,
		.to_client = pkt->direction == FROM_BACKEND,
	});
}

SEC("xdp.frags")
int tinylb(struct xdp_md *ctx)
{
	int verdict = short_way(ctx);

	return verdict == VERDICT_CONTINUE ? long_way(ctx) : verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
