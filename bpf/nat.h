/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* forward: nat. Destination and source rewritten; both directions pass by here. */
#ifndef TINYLB_NAT_H
#define TINYLB_NAT_H

#include "config.h"
#include "csum.h"
#include "flow.h"
#include "snat.h"

/* Makes the flow findable. False: another CPU was first with this client tuple. */
static __always_inline bool nat_enter(struct packet *pkt, struct flow *flow, __u32 slot,
				      const struct backend *backend, __u64 now)
{
	struct flow_ref request = { .slot = slot, .direction = FROM_CLIENT };
	struct flow_ref answer = { .slot = slot, .direction = FROM_BACKEND };

	flow->tuple[FROM_CLIENT] = pkt->tuple;
	flow->last_seen = now;
	flow->service = pkt->service;
	flow->backend = pkt->backend;
	flow->backend_generation = backend->generation;
	flow->client_interface = 0;
	flow->flags = 0;
	flow->phase = flow_phase(pkt->tuple.protocol, 0);
	if (bpf_map_update_elem(&flow_index, &pkt->tuple, &request, BPF_NOEXIST))
		return false;
	bpf_map_update_elem(&flow_index, &flow->tuple[FROM_BACKEND], &answer, BPF_EXIST);
	__atomic_exchange_n(&flow->state, FLOW_LIVE, __ATOMIC_SEQ_CST);
	return true;
}

/*
 * Stores a new flow to `backend`; NULL with pkt->reason set when there is no
 * room for it. The port comes first: where there is none, no other flow must
 * have lost its slot. Not inlined, like forward(): what one keeps on the stack,
 * of which there are 512 bytes, is gone when the other runs.
 */
static __noinline struct flow *nat_open(struct packet *pkt, const struct backend *backend,
					__u64 now)
{
	__u32 slot = NO_SLOT;
	struct tuple answer;
	struct flow *flow;

	pkt->reason = REASON_SNAT_EXHAUSTED;
	if (!snat_choose(pkt, backend, now, &answer, &slot)) {
		slot_give_back(slot);
		return NULL;
	}
	pkt->reason = REASON_FLOW_TABLE_FULL;
	if (slot == NO_SLOT && !slot_take(now, &slot)) {
		bpf_map_delete_elem(&flow_index, &answer);
		return NULL;
	}
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow)
		return NULL;
	flow->tuple[FROM_BACKEND] = answer;
	if (!nat_enter(pkt, flow, slot, backend, now)) {
		bpf_map_delete_elem(&flow_index, &answer);
		slot_give_back(slot);
		return NULL;
	}
	return flow;
}

static __always_inline bool checksum_is_partial(const struct packet *pkt, __u16 csum)
{
	return csum ==
	       csum_pseudo(&pkt->tuple.src, &pkt->tuple.dst, pkt->tuple.protocol, pkt->l4_length);
}

/*
 * The L4 checksum for a packet whose addresses change to src and dst, and whose
 * addresses and ports together change its sum by `change`. A local sender on a veth, tun or virtio
 * leaves only the pseudo header's sum in the field (CHECKSUM_PARTIAL): native
 * XDP loses the mark, so nobody after us would complete it; generic XDP keeps
 * it, so the field must stay a pseudo header's sum.
 */
static __always_inline __u16 nat_l4_checksum(struct xdp_md *ctx, const struct packet *pkt,
					     __u16 csum, const struct addr *src,
					     const struct addr *dst, __u64 change)
{
	__u16 sum;

	if (pkt->tuple.protocol == IPPROTO_UDP && !csum)
		return 0;
	if (checksum_mode != CHECKSUM_FULL && checksum_is_partial(pkt, csum)) {
		if (checksum_mode == CHECKSUM_KEEP_PARTIAL)
			return csum_pseudo(src, dst, pkt->tuple.protocol, pkt->l4_length);
		/* the field's own sum stands in for the pseudo header */
		if (csum_l4(ctx, pkt, &sum))
			csum = ~sum;
	}
	csum = csum_update(csum, change);
	return pkt->tuple.protocol == IPPROTO_UDP && !csum ? 0xffff : csum;
}

/* From the L4 header's first byte. */
static __always_inline __u32 nat_checksum_offset(const struct packet *pkt)
{
	return pkt->tuple.protocol == IPPROTO_TCP ? offsetof(struct tcphdr, check) :
						    offsetof(struct udphdr, check);
}

static __always_inline bool nat_addresses(struct xdp_md *ctx, const struct packet *pkt,
					  const struct addr *src, const struct addr *dst,
					  __u64 change)
{
	struct ipv6hdr *v6;
	struct iphdr *v4;

	if (pkt->is_v6) {
		v6 = packet_at(ctx, pkt->l3_offset, sizeof(*v6));
		if (!v6)
			return false;
		__builtin_memcpy(&v6->saddr, src, sizeof(*src));
		__builtin_memcpy(&v6->daddr, dst, sizeof(*dst));
		return true;
	}
	v4 = packet_at(ctx, pkt->l3_offset, sizeof(*v4));
	if (!v4)
		return false;
	v4->saddr = src->word[3];
	v4->daddr = dst->word[3];
	v4->check = csum_update(v4->check, change);
	return true;
}

/* Makes the packet the one that answers `other`. False only to the verifier. */
static __always_inline bool nat_rewrite(struct xdp_md *ctx, struct packet *pkt,
					const struct tuple *other)
{
	const struct addr *src = &other->dst, *dst = &other->src;
	__u64 address_change, change;
	__be16 *ports;
	__sum16 *csum;

	csum = packet_at(ctx, pkt->l4_offset + nat_checksum_offset(pkt), sizeof(*csum));
	ports = packet_at(ctx, pkt->l4_offset, 2 * sizeof(*ports));
	if (!csum || !ports)
		return false;
	address_change = csum_addr_inverse(&pkt->tuple.src) + csum_addr_inverse(&pkt->tuple.dst) +
			 csum_addr(src) + csum_addr(dst);
	change = address_change + (__u16)~pkt->tuple.sport + (__u16)~pkt->tuple.dport +
		 other->dport + other->sport;
	*csum = nat_l4_checksum(ctx, pkt, *csum, src, dst, change);
	ports[0] = other->dport;
	ports[1] = other->sport;
	return nat_addresses(ctx, pkt, src, dst, address_change);
}

#endif
