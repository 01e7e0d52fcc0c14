// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tinylb's data plane: one XDP program. Read process() first; each stage lives
 * in the header of its name. ARCHITECTURE.md, "A packet's way", tells the story.
 */
#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "next_hop.h"
#include "packet.h"
#include "parse.h"
#include "select.h"
#include "service.h"
#include "stats.h"
#include "types.h"

static __always_inline enum verdict from_backend(struct xdp_md *ctx, struct packet *pkt,
						 struct flow *flow)
{
	if (!nat_rewrite(ctx, pkt, &flow->tuple[FROM_CLIENT]))
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	pkt->reason = REASON_REPLY;
	return send(ctx, pkt, flow->client_interface, flow->client_mac, flow->local_mac);
}

static __always_inline enum verdict to_backend(struct xdp_md *ctx, struct packet *pkt,
					       struct flow *flow, const struct backend *backend,
					       enum reason reason)
{
	struct next_hop *hop = next_hop_of(backend);

	if (!hop)
		return leave(pkt, VERDICT_DROP, REASON_NO_NEXT_HOP);
	flow_learn(flow, pkt->eth, ctx->ingress_ifindex);
	if (!nat_rewrite(ctx, pkt, &flow->tuple[FROM_BACKEND]))
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	pkt->reason = reason;
	return send(ctx, pkt, hop->interface, hop->mac, hop->source_mac);
}

static __always_inline enum verdict known_flow(struct xdp_md *ctx, struct packet *pkt,
					       struct flow *flow, __u64 now)
{
	struct backend *backend;

	pkt->service = flow->service;
	pkt->backend = flow->backend;
	if (pkt->flaw)
		return refuse_flawed(pkt);
	backend = flow_backend(flow);
	if (!backend)
		return leave(pkt, VERDICT_DROP, REASON_BACKEND_GONE);
	flow_track(flow, pkt, now);
	if (pkt->direction == FROM_BACKEND)
		return from_backend(ctx, pkt, flow);
	return to_backend(ctx, pkt, flow, backend, REASON_FORWARDED);
}

static __always_inline enum verdict new_flow(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	struct service *service;
	struct backend *backend;
	struct flow *flow;

	service = service_at(&pkt->tuple.dst, pkt->tuple.dport, pkt->tuple.protocol);
	if (!service)
		return leave(pkt, VERDICT_PASS, pkt->flaw ? pkt->flaw : REASON_NOT_OURS);
	pkt->service = service->id;
	if (pkt->flaw)
		return refuse_flawed(pkt);
	if (!opens_flow(pkt))
		return leave(pkt, VERDICT_DROP, REASON_NO_FLOW);
	backend = select_backend(pkt, service);
	if (!backend || !backend->snat_count)
		return leave(pkt, VERDICT_DROP, REASON_NO_BACKEND);
	if (!next_hop_of(backend))
		return leave(pkt, VERDICT_DROP, REASON_NO_NEXT_HOP);
	flow = nat_open(pkt, backend, now);
	if (!flow)
		return VERDICT_DROP;
	return to_backend(ctx, pkt, flow, backend, REASON_NEW_FLOW);
}

static __always_inline enum verdict process(struct xdp_md *ctx, struct packet *pkt)
{
	enum verdict verdict;
	struct flow *flow;
	__u64 now;

	verdict = parse(ctx, pkt);
	if (verdict != VERDICT_CONTINUE)
		return verdict;
	now = clock_now();
	flow = flow_find(pkt, now);
	if (flow && flow_superseded(pkt, flow)) {
		flow_release(flow);
		flow = NULL;
	}
	if (flow)
		return known_flow(ctx, pkt, flow, now);
	pkt->direction = FROM_CLIENT;
	return new_flow(ctx, pkt, now);
}

SEC("xdp.frags")
int tinylb(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return finish(&pkt, process(ctx, &pkt));
}

char _license[] SEC("license") = "Dual BSD/GPL";
