/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the data plane says of its own accord: to whom, how often, and with which frame around it. */
#ifndef TINYLB_ANSWER_H
#define TINYLB_ANSWER_H

#include "clock.h"
#include "ip.h"
#include "maps.h"

/* After a silence so many nanoseconds' worth of answers may go at once. */
#define ANSWER_BURST_NS 100000000ULL

/* A leaky bucket (ITU-T I.371, generic cell rate algorithm); CPUs that race exceed it by their number. */
static __always_inline bool answer_is_due(enum answer kind, __u64 now)
{
	__u32 zero = 0;
	struct answer_clock *clock = bpf_map_lookup_elem(&answer_clocks, &zero);
	struct settings *settings = bpf_map_lookup_elem(&all_settings, &zero);
	__u64 due;

	if (!clock || !settings || !settings->interval[kind])
		return false;
	due = clock->due[kind];
	if (due > now + ANSWER_BURST_NS)
		return false;
	clock->due[kind] = (due > now ? due : now) + settings->interval[kind];
	return true;
}

/* One host, that could have sent the packet (RFC 1122, 3.2.2; RFC 4443, 2.4). */
static __always_inline bool is_host(const struct addr *a)
{
	__u8 first = bpf_ntohl(a->word[3]) >> 24;

	if (addr_is_v4(a))
		return first != 0 && first != 127 && first < 224;
	if ((bpf_ntohl(a->word[0]) >> 24) == 0xff)
		return false;
	return a->word[0] || a->word[1] || a->word[2] || bpf_ntohl(a->word[3]) > 1;
}

/* It was not sent to many, there is somebody to tell, and it is no later fragment (RFC 1122, 3.2.2). */
static __always_inline bool may_answer(struct xdp_md *ctx, const struct packet *pkt)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));

	return eth && !(eth->h_dest[0] & 1) && !pkt->fragment_offset && is_host(&pkt->tuple.src);
}

/* Lets the frame end at `length`. */
static __always_inline bool cut(struct xdp_md *ctx, __u32 length)
{
	return !bpf_xdp_adjust_tail(ctx, (int)length - (int)bpf_xdp_get_buff_len(ctx));
}

#endif
