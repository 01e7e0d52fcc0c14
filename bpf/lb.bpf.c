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

/* The ids of a backend that has gone, and of its service, may be a stranger's by now. */
static __always_inline void name_flow(struct packet *pkt, const struct flow *flow, bool gone)
{
	const struct tuple *request = &flow->tuple[FROM_CLIENT];
	struct service *service;

	if (!gone) {
		pkt->service = flow->service;
		pkt->backend = flow->backend;
		return;
	}
	service = service_at(&request->dst, request->dport, request->protocol);
	if (service)
		pkt->service = service->id;
}

static __always_inline enum verdict known_flow(struct packet *pkt, struct flow *flow, __u64 now)
{
	bool gone = !flow_backend(flow);

	name_flow(pkt, flow, gone);
	if (pkt->flaw)
		return refuse_flawed(pkt);
	if (gone)
		return leave(pkt, VERDICT_DROP, REASON_BACKEND_GONE);
	flow_track(flow, pkt, now);
	pkt->reason = pkt->direction == FROM_CLIENT ? REASON_FORWARDED : REASON_REPLY;
	return VERDICT_CONTINUE;
}

static __always_inline enum verdict new_flow(struct packet *pkt, struct flow **flow, __u64 now)
{
	struct service *service;
	struct backend *backend;

	pkt->direction = FROM_CLIENT;
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
	*flow = nat_open(pkt, backend, now);
	if (!*flow)
		return VERDICT_DROP;
	pkt->reason = REASON_NEW_FLOW;
	return VERDICT_CONTINUE;
}

static __noinline enum verdict forward(struct xdp_md *ctx, struct packet *pkt, struct flow *flow)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct next_hop hop;

	if (!eth)
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	if (pkt->direction == FROM_CLIENT) {
		flow_learn(flow, eth, ctx->ingress_ifindex);
		if (!next_hop_to_backend(flow, &hop))
			return leave(pkt, VERDICT_DROP, REASON_NO_NEXT_HOP);
	} else {
		next_hop_to_client(flow, &hop);
	}
	if (!nat_rewrite(ctx, pkt, flow_tuple(flow, !pkt->direction)))
		return leave(pkt, VERDICT_ABORTED, REASON_TRUNCATED);
	return send(ctx, pkt, &hop);
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
		verdict = known_flow(pkt, flow, now);
	else
		verdict = new_flow(pkt, &flow, now);
	if (verdict != VERDICT_CONTINUE)
		return verdict;
	return forward(ctx, pkt, flow);
}

SEC("xdp.frags")
int tinylb(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return finish(&pkt, process(ctx, &pkt));
}

char _license[] SEC("license") = "Dual BSD/GPL";
