/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who has this VIP? Where it is no address of the host, the host does not say it: ARP (RFC 826, RFC 5227) and
 * neighbour discovery (RFC 4861). Whatever is not a valid question for such a VIP passes untouched.
 */
#ifndef TINYLB_NEIGHBOUR_H
#define TINYLB_NEIGHBOUR_H

#include "config.h"
#include "csum.h"
#include "next_hop.h"
#include "parse.h"

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));
ASSERT_SIZE(struct arp_ipv4, 28);

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_HOP_LIMIT 255 /* so it comes from this link */
#define ND_SOURCE_MAC 1 /* options */
#define ND_TARGET_MAC 2
#define ND_SOLICITED 0x40000000U
#define ND_OVERRIDE 0x20000000U
#define ND_MAX 512 /* as long as a solicitation that is answered may be, and then some */
#define ND_OPTIONS_MAX 16

/* A solicitation, without its options. */
struct nd_message {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 flags;
	struct addr target;
};
ASSERT_SIZE(struct nd_message, 24);

struct nd_link_option {
	__u8 type;
	__u8 length; /* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
};
ASSERT_SIZE(struct nd_link_option, 8);

struct nd_answer {
	struct ipv6hdr ip;
	struct nd_message message;
	struct nd_link_option option;
};
ASSERT_SIZE(struct nd_answer, 72);

static __always_inline bool is_group_mac(const __u8 *mac)
{
	return mac[0] & 1;
}

static __always_inline bool answers_for(const struct addr *vip)
{
	struct addr key = *vip;
	struct foreign_vip *foreign = bpf_map_lookup_elem(&foreign_vips, &key);

	return foreign && foreign->answers & VIP_ANSWERS_NEIGHBOURS;
}

/* What the asker is to know us by: the address that it has asked, or the interface's. False: there is none. */
static __always_inline bool own_mac(const struct ethhdr *eth, __u8 *mac)
{
	const volatile __u32 *first = (const volatile __u32 *)neighbour_mac;
	const volatile __u16 *last = (const volatile __u16 *)(neighbour_mac + 4);

	if (is_group_mac(eth->h_source))
		return false;
	if (!is_group_mac(eth->h_dest)) {
		mac_copy(mac, eth->h_dest);
		return sent_to_us(eth);
	}
	*(__u32 *)mac = *first;
	*(__u16 *)(mac + 4) = *last;
	return *first | *last;
}

/* A question by somebody who wants to know; an announcement asks for its sender's own address. */
static __always_inline bool arp_asks(const struct arp_ipv4 *arp)
{
	return arp->hardware == bpf_htons(ARP_ETHERNET) && arp->protocol == bpf_htons(ETH_P_IP) &&
	       arp->hardware_size == ETH_ALEN && arp->protocol_size == sizeof(arp->target) &&
	       arp->operation == bpf_htons(ARP_REQUEST) && arp->sender != arp->target &&
	       !is_group_mac(arp->sender_mac);
}

/* Makes the question the answer to it. False: there is none, and the frame is as it was. */
static __always_inline bool arp_answer(struct xdp_md *ctx, const struct packet *pkt)
{
	struct arp_ipv4 *arp = packet_at(ctx, pkt->l3_offset, sizeof(*arp));
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	__u8 mac[ETH_ALEN] __attribute__((aligned(4)));
	struct addr vip;
	__be32 target;

	if (!arp || !eth || !arp_asks(arp))
		return false;
	target = arp->target;
	vip = addr_from_v4(target);
	if (!own_mac(eth, mac) || !answers_for(&vip))
		return false;
	arp->operation = bpf_htons(ARP_REPLY);
	mac_copy(arp->target_mac, arp->sender_mac);
	arp->target = arp->sender;
	mac_copy(arp->sender_mac, mac);
	arp->sender = target;
	mac_copy(eth->h_dest, eth->h_source);
	mac_copy(eth->h_source, mac);
	return true;
}

struct nd_walk {
	struct xdp_md *ctx;
	__u32 offset;
	__u32 end;
	bool valid;
	bool names_sender;
};

static long nd_option_step(__u32 i, struct nd_walk *walk)
{
	struct nd_link_option *option = packet_at(walk->ctx, walk->offset, sizeof(*option));

	if (walk->offset == walk->end)
		return 1;
	walk->valid = option && option->length && walk->offset + option->length * 8 <= walk->end;
	if (!walk->valid)
		return 1;
	if (option->type == ND_SOURCE_MAC)
		walk->names_sender = true;
	walk->offset += option->length * 8;
	return 0;
}

/* RFC 4861, 7.1.1. Who has no address yet is no neighbour yet, and asks everybody. */
static __always_inline bool nd_options_fit(struct xdp_md *ctx, const struct packet *pkt,
					   __u32 length)
{
	__u32 offset = pkt->l3_offset + sizeof(struct ipv6hdr);
	struct nd_walk walk = {
		.ctx = ctx,
		.offset = offset + sizeof(struct nd_message),
		.end = offset + length,
		.valid = true,
	};

	bpf_loop(ND_OPTIONS_MAX, nd_option_step, &walk, 0);
	return walk.valid && walk.offset == walk.end &&
	       !(walk.names_sender && addr_is_unspecified(&pkt->tuple.src));
}

/* The group that those ask who do not know the MAC (RFC 4291, 2.7.1). */
static __always_inline bool is_solicited_node(const struct addr *group, const struct addr *target)
{
	return group->word[0] == bpf_htonl(0xff020000) && !group->word[1] &&
	       group->word[2] == bpf_htonl(1) &&
	       group->word[3] == (target->word[3] | bpf_htonl(0xff000000));
}

/* RFC 4861, 7.1.1. */
static __always_inline bool nd_asks(struct xdp_md *ctx, const struct packet *pkt)
{
	struct nd_message *asked =
		packet_at(ctx, pkt->l3_offset + sizeof(struct ipv6hdr), sizeof(*asked));
	struct ipv6hdr *ip = packet_at(ctx, pkt->l3_offset, sizeof(*ip));
	bool to_group;
	__u32 length;
	__u16 sum;

	if (!ip || !asked)
		return false;
	length = bpf_ntohs(ip->payload_len);
	to_group = is_solicited_node(&pkt->tuple.dst, &asked->target);
	if (ip->version != 6 || ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != ND_HOP_LIMIT ||
	    asked->type != ND_SOLICITATION || asked->code || length < sizeof(*asked) ||
	    length > ND_MAX || pkt->l3_offset + sizeof(*ip) + length > pkt->length ||
	    (!to_group && !addr_equal(&pkt->tuple.dst, &asked->target)) ||
	    (!to_group && addr_is_unspecified(&pkt->tuple.src)) ||
	    bpf_ntohl(pkt->tuple.src.word[0]) >> 24 == 0xff)
		return false;
	return nd_options_fit(ctx, pkt, length) &&
	       csum_range(ctx, pkt->l3_offset + sizeof(*ip), length, &sum) &&
	       csum_fold((__u64)sum + csum_pseudo(&pkt->tuple.src, &pkt->tuple.dst, IPPROTO_ICMPV6,
						  length)) == 0xffff;
}

static __always_inline void nd_fill(struct nd_answer *answer, const struct packet *pkt,
				    const struct addr *target, const __u8 *mac)
{
	bool to_all = addr_is_unspecified(&pkt->tuple.src);
	__u32 length = sizeof(answer->message) + sizeof(answer->option);
	struct addr to = pkt->tuple.src;
	__u64 sum = 0;

	if (to_all)
		to = (struct addr){ .word = { bpf_htonl(0xff020000), 0, 0, bpf_htonl(1) } };
	*answer = (struct nd_answer){
		.message = {
			.type = ND_ADVERTISEMENT,
			.flags = bpf_htonl(to_all ? ND_OVERRIDE : ND_OVERRIDE | ND_SOLICITED),
			.target = *target,
		},
		.option = { .type = ND_TARGET_MAC, .length = 1 },
	};
	mac_copy(answer->option.mac, mac);
	*(__be32 *)&answer->ip = bpf_htonl(6U << 28);
	answer->ip.payload_len = bpf_htons(length);
	answer->ip.nexthdr = IPPROTO_ICMPV6;
	answer->ip.hop_limit = ND_HOP_LIMIT;
	__builtin_memcpy(&answer->ip.saddr, target, sizeof(*target));
	__builtin_memcpy(&answer->ip.daddr, &to, sizeof(to));
	for (__u32 i = 0; i < length / 4; i++)
		sum += ((__u32 *)&answer->message)[i];
	answer->message.check = ~csum_fold(sum + csum_pseudo(target, &to, IPPROTO_ICMPV6, length));
}

/* Puts the answer in place of the frame. False: there is no room for it. */
static __always_inline bool nd_put(struct xdp_md *ctx, const struct packet *pkt,
				   const struct nd_answer *answer, const struct ethhdr *macs)
{
	struct nd_answer *at;
	struct ethhdr *eth;

	if (bpf_xdp_adjust_head(ctx, (int)pkt->length - (int)pkt->l3_offset - (int)sizeof(*at)))
		return false;
	eth = packet_at(ctx, 0, sizeof(*eth));
	at = packet_at(ctx, pkt->l3_offset, sizeof(*at));
	if (!eth || !at)
		return false;
	*eth = *macs;
	*at = *answer;
	return tags_write(ctx, &pkt->tags, bpf_htons(ETH_P_IPV6));
}

/* Makes the question the answer to it. False: there is none, and the frame is as it was. Verified by itself, like parse(). */
__noinline bool nd_answer(struct xdp_md *ctx, struct packet *pkt)
{
	struct nd_message *asked;
	struct nd_answer answer;
	struct ethhdr *eth, macs __attribute__((aligned(4)));
	struct addr vip;

	if (!pkt)
		return false;
	pkt->length = bpf_xdp_get_buff_len(ctx);
	if (!nd_asks(ctx, pkt))
		return false;
	eth = packet_at(ctx, 0, sizeof(*eth));
	asked = packet_at(ctx, pkt->l3_offset + sizeof(struct ipv6hdr), sizeof(*asked));
	if (!eth || !asked)
		return false;
	vip = asked->target;
	if (!own_mac(eth, macs.h_source) || !answers_for(&vip))
		return false;
	nd_fill(&answer, pkt, &vip, macs.h_source);
	mac_copy(macs.h_dest, eth->h_source);
	if (addr_is_unspecified(&pkt->tuple.src))
		__builtin_memcpy(macs.h_dest, (const __u8[]){ 0x33, 0x33, 0, 0, 0, 1 }, ETH_ALEN);
	return nd_put(ctx, pkt, &answer, &macs);
}

/* The frame may be a question; whether it is, and for us, neighbour_answer() finds out. */
static __always_inline bool may_ask(const struct packet *pkt)
{
	if (pkt->flaw)
		return false;
	return pkt->is_arp ||
	       (pkt->is_v6 && (pkt->reason == REASON_ICMP || pkt->reason == REASON_OTHER_MAC));
}

/*
 * Makes the question the answer to it, for whoever asked. False: there is none, and the frame is as it was. Verified
 * by itself, like parse().
 */
__noinline bool neighbour_answer(struct xdp_md *ctx, struct packet *pkt)
{
	if (!pkt || !(pkt->is_arp ? arp_answer(ctx, pkt) : nd_answer(ctx, pkt)))
		return false;
	pkt->reason = REASON_NEIGHBOUR;
	return true;
}

#endif
