/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers to echo requests (RFC 792; RFC 4443, 4.2) for VIPs that are no address of the host. */
#ifndef TINYLB_ECHO_H
#define TINYLB_ECHO_H

#include "answer.h"
#include "icmp.h"
#include "next_hop.h"
#include "translate.h"

#define ICMPV4_ECHO_REQUEST 8
#define ICMPV4_ECHO_REPLY 0
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

static __always_inline bool is_echo_request(struct xdp_md *ctx, const struct packet *pkt)
{
	struct icmp_error *echo = icmp_at(ctx, pkt);

	return echo && !echo->code &&
	       echo->type == (pkt->is_v6 ? ICMPV6_ECHO_REQUEST : ICMPV4_ECHO_REQUEST);
}

/* Nobody else will: the host does not have the address. */
static __always_inline bool echo_is_ours(struct xdp_md *ctx, const struct packet *pkt)
{
	struct addr vip = pkt->tuple.dst; /* a key, on the stack */
	struct foreign_vip *foreign = bpf_map_lookup_elem(&foreign_vips, &vip);

	/* by a source route the answer would have to go back (RFC 1122, 3.2.2.6) */
	return foreign && foreign->answers & VIP_ANSWERS_ECHO && !has_source_route(ctx, pkt);
}

/* The way back begins here; a header's checksum does not mind that addresses change places. */
static __always_inline bool echo_turn_v4(struct xdp_md *ctx, const struct packet *pkt)
{
	struct iphdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));
	__u64 change;
	__u16 *ttl;

	if (!ip)
		return false;
	ttl = (__u16 *)&ip->ttl; /* and protocol: a word of the checksum */
	change = (__u16) ~*ttl;
	ip->ttl = TTL_OF_OURS;
	change += *ttl;
	ip->check = csum_update(ip->check, change);
	ip->saddr = pkt->tuple.dst.word[3];
	ip->daddr = pkt->tuple.src.word[3];
	return true;
}

static __always_inline bool echo_turn_v6(struct xdp_md *ctx, const struct packet *pkt)
{
	struct ipv6hdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));

	if (!ip)
		return false;
	ip->hop_limit = TTL_OF_OURS;
	__builtin_memcpy(&ip->saddr, &pkt->tuple.dst, sizeof(struct addr));
	__builtin_memcpy(&ip->daddr, &pkt->tuple.src, sizeof(struct addr));
	return true;
}

static __always_inline bool echo_reply(struct xdp_md *ctx, const struct packet *pkt)
{
	struct icmp_error *echo = icmp_at(ctx, pkt);
	__u16 *first = (__u16 *)echo; /* type and code: a word of the checksum */
	__u64 change;

	if (!echo)
		return false;
	change = (__u16) ~*first;
	echo->type = pkt->is_v6 ? ICMPV6_ECHO_REPLY : ICMPV4_ECHO_REPLY;
	change += *first;
	echo->check = csum_update(echo->check, change);
	return pkt->is_v6 ? echo_turn_v6(ctx, pkt) : echo_turn_v4(ctx, pkt);
}

/* Makes the request its own answer: however long it is, only its headers change. */
static __always_inline enum verdict echo_answer(struct xdp_md *ctx, struct packet *pkt, __u64 now)
{
	if (pkt->is_stranger || !echo_is_ours(ctx, pkt))
		return VERDICT_PASS;
	pkt->reason = REASON_ECHO;
	if (!may_answer(ctx, pkt) || addr_equal(&pkt->tuple.src, &pkt->tuple.dst) ||
	    !answer_is_due(ANSWER_ECHO, now) || !echo_reply(ctx, pkt))
		return VERDICT_DROP;
	return send_back(ctx);
}

#endif
