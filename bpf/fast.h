/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way: packets of the shape that nearly all have, of flows in which they change nothing but
 * the time. It says the same of them as the stages that process() runs, which take whatever else comes: so
 * each early return costs time, and none is wrong.
 */
#ifndef TINYLB_FAST_H
#define TINYLB_FAST_H

#include "csum.h"
#include "flow.h"
#include "next_hop.h"
#include "parse.h"
#include "path_mtu.h"
#include "quic.h"
#include "stats.h"
#include "tunnel.h"

/* A packet without VLAN tags, IPv4 options and IPv6 extension headers; all of it becomes registers. */
struct quick {
	bool is_v6; /* a constant wherever it is asked */
	struct ethhdr *eth;
	void *l3;
	void *l4;
	__u32 frame_length;
	__u32 l4_length;
	__u32 ports; /* as they lie in the packet */
	__u8 protocol;
	enum direction direction;
	__u32 slot;
	struct flow *flow;
	struct flow_prefixes *prefixes; /* if is_v6 */
	struct flow_life life;
	struct backend *backend;
	__u16 *check; /* TCP's or UDP's */
	bool is_long; /* perhaps too long, if it leaves as it came */
};

static __always_inline struct iphdr *quick_v4(const struct quick *q)
{
	return q->l3;
}

static __always_inline struct ipv6hdr *quick_v6(const struct quick *q)
{
	return q->l3;
}

static __always_inline const __u32 *quick_src(const struct quick *q)
{
	return q->is_v6 ? (__u32 *)&quick_v6(q)->saddr : &quick_v4(q)->saddr;
}

static __always_inline const __u32 *quick_dst(const struct quick *q)
{
	return q->is_v6 ? (__u32 *)&quick_v6(q)->daddr : &quick_v4(q)->daddr;
}

static __always_inline struct addr quick_addr(const struct quick *q, const __u32 *words)
{
	return q->is_v6 ? (struct addr){ .word = { words[0], words[1], words[2], words[3] } } :
			  addr_from_v4(words[0]);
}

/* The headers that all have are there. */
static __always_inline bool quick_begin(struct quick *q, struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	q->eth = data;
	q->l3 = data + sizeof(struct ethhdr);
	q->l4 = q->l3 + (q->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if (q->l4 + sizeof(struct udphdr) > end)
		return false;
	q->frame_length = end - data;
	q->ports = *(__u32 *)q->l4;
	return true;
}

enum quick_guess {
	GUESS_NOTHING, /* its headers are not all there */
	GUESS_NOBODY, /* not a packet of ours */
	GUESS_REQUEST,
	GUESS_ANSWER, /* or a request to one of many ports */
};

/* What the addresses and ports make likely. */
static __always_inline enum quick_guess quick_guess(const struct quick *q)
{
	struct addr src = quick_addr(q, quick_src(q)), dst = quick_addr(q, quick_dst(q));
	struct address_filter *filter;
	__u32 zero = 0;

	filter = bpf_map_lookup_elem(&address_filters, &zero);
	if (!filter)
		return GUESS_NOBODY;
	if (filter_has_port(filter, &dst, q->ports >> 16))
		return GUESS_REQUEST;
	return filter_has(filter, &dst, FILTER_DESTINATION) ||
			       filter_has(filter, &src, FILTER_SOURCE) ?
		       GUESS_ANSWER :
		       GUESS_NOBODY;
}

static __always_inline bool quick_ip(struct quick *q, struct xdp_md *ctx)
{
	struct ipv6hdr *v6 = quick_v6(q);
	struct iphdr *v4 = quick_v4(q);
	__u32 header;

	if (q->is_v6) {
		header = sizeof(*v6);
		q->l4_length = bpf_ntohs(v6->payload_len);
		q->protocol = v6->nexthdr;
		if ((*(__u8 *)v6 & 0xf0) != 0x60)
			return false;
	} else {
		header = sizeof(*v4);
		q->l4_length = bpf_ntohs(v4->tot_len) - header; /* wraps, when it is a lie */
		q->protocol = v4->protocol;
		if (*(__u8 *)v4 != 0x45 ||
		    v4->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET))
			return false;
	}
	return q->l4_length <= q->frame_length - sizeof(struct ethhdr) - header;
}

/* The whole frame, where its first buffer need not be all of it. Drivers fill that before they begin another. */
static __always_inline void quick_length(struct quick *q, struct xdp_md *ctx)
{
	if (q->frame_length > ETH_FRAME_LEN)
		q->frame_length = bpf_xdp_get_buff_len(ctx);
}

/* And nothing in it that changes the flow. */
static __always_inline bool quick_l4(struct quick *q, struct xdp_md *ctx)
{
	struct tcphdr *tcp = q->l4;
	struct udphdr *udp = q->l4;

	if (q->protocol == IPPROTO_UDP) {
		q->check = &udp->check;
		return bpf_ntohs(udp->len) == q->l4_length && q->l4_length >= sizeof(*udp);
	}
	if (q->protocol != IPPROTO_TCP || (void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return false;
	q->check = &tcp->check;
	return q->l4_length >= sizeof(*tcp) && tcp->doff * 4 >= sizeof(*tcp) &&
	       tcp->doff * 4 <= q->l4_length &&
	       !(((__u8 *)tcp)[13] & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* The first place in a bucket whose bits match; NO_SLOT. */
static __always_inline __u32 quick_place_in(enum direction table, __u32 index, __u64 hash)
{
	struct bucket *bucket = bucket_at(table, index);
	__u64 matches;

	if (!bucket)
		return NO_SLOT;
	for (__u32 word = 0; word < BUCKET_WORDS; word++) {
		matches = word_matches(bucket_word(bucket, word), hash_tag(hash));
		if (matches)
			return index * BUCKET_PLACES + word * WORD_PLACES + lowest_part(matches);
	}
	return NO_SLOT;
}

/* The same in both buckets. Verified by itself, like parse(). */
__noinline __u32 quick_place_anywhere(enum direction table, __u64 hash)
{
	__u32 place = quick_place_in(table, first_bucket(table, hash), hash);

	return place != NO_SLOT ? place : quick_place_in(table, second_bucket(table, hash), hash);
}

/* Most lie where they are looked for first. */
static __always_inline __u32 quick_place(enum direction table, __u64 hash)
{
	__u32 index = first_bucket(table, hash), word = first_word(hash);
	struct bucket *bucket = bucket_at(table, index);
	__u64 matches;

	if (!bucket)
		return NO_SLOT;
	matches = word_matches(bucket_word(bucket, word), hash_tag(hash));
	if (!matches)
		return quick_place_anywhere(table, hash);
	return index * BUCKET_PLACES + word * WORD_PLACES + lowest_part(matches);
}

static __always_inline bool quick_find(struct quick *q, enum quick_guess guess)
{
	__u64 hash = q->is_v6 ? hash_v6(quick_src(q), quick_dst(q), q->ports, q->protocol) :
				hash_v4(*quick_src(q), *quick_dst(q), q->ports, q->protocol);
	__u32 slot; /* a key must be in memory, *q should not */

	q->slot = NO_SLOT;
	if (guess == GUESS_ANSWER) {
		q->direction = FROM_BACKEND;
		answer_touch(hash);
		q->slot = quick_place(FROM_BACKEND, hash);
		if (q->slot != NO_SLOT)
			q->slot = slot_at(FROM_BACKEND, q->slot, hash);
	}
	if (q->slot == NO_SLOT) {
		q->direction = FROM_CLIENT;
		flow_touch(hash);
		q->slot = quick_place(FROM_CLIENT, hash);
	}
	slot = q->slot;
	q->flow = flow_at(slot);
	if (!q->flow)
		return false;
	q->life = flow_life(q->flow);
	return true;
}

static __always_inline const struct flow_ends *quick_ends(const struct quick *q,
							  enum direction direction)
{
	return direction == FROM_CLIENT ? &q->flow->request : &q->flow->answer;
}

static __always_inline bool words_equal(const struct addr_prefix *prefix, const __u32 *words)
{
	return !((prefix->word[0] ^ words[0]) | (prefix->word[1] ^ words[1]) |
		 (prefix->word[2] ^ words[2]));
}

/* It really is the packet's flow, in its direction. */
static __always_inline bool quick_is(struct quick *q)
{
	enum direction direction = q->direction;
	const struct flow_ends *ends = quick_ends(q, direction);
	__u32 last = q->is_v6 ? 3 : 0, slot = q->slot;
	enum flow_flags family = direction == FROM_CLIENT ? FLOW_REQUEST_V6 : FLOW_ANSWER_V6;
	struct flow_prefixes *p;

	if (!q->life.phase || q->life.protocol != q->protocol ||
	    !(q->life.flags & family) == q->is_v6 || ends->src != quick_src(q)[last] ||
	    ends->dst != quick_dst(q)[last] || ports_word(ends->sport, ends->dport) != q->ports)
		return false;
	if (!q->is_v6)
		return true;
	p = q->prefixes = bpf_map_lookup_elem(&all_flow_prefixes, &slot);
	if (!p)
		return false;
	return direction == FROM_CLIENT ? words_equal(&p->request_src, quick_src(q)) &&
						  words_equal(&p->request_dst, quick_dst(q)) :
					  words_equal(&p->answer_src, quick_src(q)) &&
						  words_equal(&p->answer_dst, quick_dst(q));
}

/* To the other family. */
static __always_inline bool quick_crosses(enum flow_flags flags)
{
	return !(flags & FLOW_REQUEST_V6) != !(flags & FLOW_ANSWER_V6);
}

/* Of the IP packet. */
static __always_inline __u32 quick_ip_length(const struct quick *q)
{
	return q->l4_length + ip_header_size(q->is_v6);
}

/* The flow is alive, its backend too, and the packet says nothing new about either. */
static __always_inline bool quick_goes_on(struct quick *q, __u64 now)
{
	enum flow_flags heard = flow_hears(q->direction, q->life);
	__u8 ttl = q->is_v6 ? quick_v6(q)->hop_limit : quick_v4(q)->ttl;
	__u32 zero = 0;
	struct settings *settings = bpf_map_lookup_elem(&all_settings, &zero);

	q->backend = backend_of(q->flow->backend, q->flow->backend_generation);
	if (!settings)
		return false;
	q->is_long = quick_ip_length(q) > settings->smallest_mtu;
	return q->backend && (q->life.flags & heard) == heard &&
	       !flow_expired(q->backend, q->life.phase, q->flow->last_seen, now) &&
	       !(translates(q->life.forward) && (ttl <= 1 || quick_crosses(q->life.flags)));
}

/* As flow_is_of_another(). */
static __always_inline bool quick_is_of_another(const struct quick *q, struct xdp_md *ctx)
{
	__u32 payload = sizeof(struct ethhdr) + sizeof(struct udphdr) +
			(q->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	__u32 named;

	if (!q->backend->quic.id_length || q->protocol != IPPROTO_UDP ||
	    q->direction != FROM_CLIENT)
		return false;
	named = quic_named(ctx, payload, q->l4_length - sizeof(struct udphdr), q->backend->service,
			   &q->backend->quic);
	return named && named != q->flow->backend;
}

/* The long way completes what a local sender has left to its interface. */
static __always_inline bool quick_is_partial(const struct quick *q)
{
	struct addr src = quick_addr(q, quick_src(q)), dst = quick_addr(q, quick_dst(q));

	return checksum_mode != CHECKSUM_FULL && (*q->check || q->protocol == IPPROTO_TCP) &&
	       *q->check == csum_pseudo(&src, &dst, q->protocol, q->l4_length);
}

/* Puts another word in place and returns by how much that changes a checksum. */
static __always_inline __u64 quick_replace(__u32 *word, __u32 other)
{
	__u64 change = (__u64)(__u32) ~*word + other;

	*word = other;
	return change;
}

static __always_inline void quick_put_addr(__u32 *words, const struct addr_prefix *prefix,
					   __u32 last)
{
	words[0] = prefix->word[0];
	words[1] = prefix->word[1];
	words[2] = prefix->word[2];
	words[3] = last;
}

/* The packet's addresses become those that answer the flow's other tuple. Returns by how much that changes a checksum. */
static __always_inline __u64 quick_addresses_v6(const struct quick *q,
						const struct flow_ends *other)
{
	struct flow_prefixes *p = q->prefixes;
	bool request = q->direction == FROM_CLIENT;

	quick_put_addr((__u32 *)quick_src(q), request ? &p->answer_dst : &p->request_dst,
		       other->dst);
	quick_put_addr((__u32 *)quick_dst(q), request ? &p->answer_src : &p->request_src,
		       other->src);
	quick_v6(q)->hop_limit--;
	return request ? p->change : (__u16)~p->change;
}

static __always_inline __u64 quick_addresses_v4(const struct quick *q,
						const struct flow_ends *other)
{
	__u64 change = quick_replace((__u32 *)quick_src(q), other->dst) +
		       quick_replace((__u32 *)quick_dst(q), other->src);

	quick_v4(q)->ttl--;
	quick_v4(q)->check = csum_update(quick_v4(q)->check, change + TTL_CHANGE);
	return change;
}

/* The packet becomes the one that answers the flow's other tuple. */
static __always_inline void quick_nat(const struct quick *q)
{
	bool request = q->direction == FROM_CLIENT;
	const struct flow_ends *other = quick_ends(q, request ? FROM_BACKEND : FROM_CLIENT);
	__u64 change;
	__u16 check;

	change = q->is_v6 ? quick_addresses_v6(q, other) : quick_addresses_v4(q, other);
	change += quick_replace(q->l4, ports_word(other->dport, other->sport));
	if (*q->check || q->protocol == IPPROTO_TCP) {
		check = csum_update(*q->check, change);
		*q->check = q->protocol == IPPROTO_UDP && !check ? 0xffff : check;
	}
}

static __always_inline bool quick_learns(const struct quick *q, struct xdp_md *ctx)
{
	return q->flow->client_link != ctx->ingress_ifindex || !macs_equal(&q->flow->macs, q->eth);
}

/* False: it is not known, or wants a tag. */
static __always_inline bool quick_next_hop(const struct quick *q, struct next_hop *hop)
{
	struct next_hop *to_backend;

	if (q->direction == FROM_BACKEND) {
		next_hop_to_client(q->flow, hop);
	} else {
		to_backend = next_hop_of(q->backend);
		if (!to_backend)
			return false;
		*hop = *to_backend;
	}
	return !(hop->vlan & VLAN_IDS);
}

/* Its place is known, and it needs nothing that only the long way does. */
static __always_inline bool quick_known(struct quick *q, struct xdp_md *ctx, enum quick_guess guess)
{
	return sent_to_us(q->eth) && quick_ip(q, ctx) && quick_l4(q, ctx) && !quick_is_partial(q) &&
	       quick_find(q, guess) && quick_is(q);
}

/*
 * Of the datagram with the packet in it, from the packet's own checksum, as with the kernel's local checksum
 * offload: what is summed up by that adds up to the inverse of its pseudo header.
 */
static __always_inline bool quick_gue_checksum(const struct quick *q, const struct ip_header *outer,
					       struct gue *gue)
{
	const __u32 *ip = q->l3;
	__u64 sum = (__u16)~bpf_htons(q->protocol) + (__u16)~bpf_htons(q->l4_length);

	if (!*q->check && q->protocol == IPPROTO_UDP)
		return false;
	/* the addresses are in the header and, inverted, in the sum of the rest */
	sum += (__u64)ip[0] + ip[1] + (q->is_v6 ? 0 : ip[2]);
	gue_checksum(outer, sum, gue);
	return true;
}

/* False: it did not become longer by as much as it should. */
static __always_inline bool quick_put(struct xdp_md *ctx, const struct ip_header *outer,
				      bool is_gue, const struct gue *gue)
{
	__u32 l3 = sizeof(struct ethhdr);
	__be16 *protocol = packet_at(ctx, offsetof(struct ethhdr, h_proto), sizeof(*protocol));

	if (!protocol)
		return false;
	*protocol = outer->is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	return ip_write(ctx, l3, outer) &&
	       (!is_gue || gue_write(ctx, l3 + ip_header_size(outer->is_v6), gue));
}

static __always_inline __u32 quick_hash(const struct quick *q)
{
	struct tuple t = {
		.src = quick_addr(q, quick_src(q)),
		.dst = quick_addr(q, quick_dst(q)),
		.sport = q->ports,
		.dport = q->ports >> 16,
		.protocol = q->protocol,
	};

	return tuple_hash(&t);
}

/* The outer header, as tunnel_rewrite() makes it. */
static __always_inline void quick_outer(const struct quick *q, __u32 hash, struct ip_header *outer)
{
	__u32 first;

	if (q->is_v6) {
		first = *(__be32 *)quick_v6(q);
		outer->tos = bpf_ntohl(first) >> 20;
		outer->dont_fragment = true;
		outer->payload = q->l4_length + sizeof(struct ipv6hdr);
		outer->protocol = IPPROTO_IPV6;
	} else {
		outer->tos = quick_v4(q)->tos;
		outer->dont_fragment = quick_v4(q)->frag_off & bpf_htons(IPV4_DONT_FRAGMENT);
		outer->payload = q->l4_length + sizeof(struct iphdr);
		outer->protocol = IPPROTO_IPIP;
	}
	outer->flow_label = hash & FLOW_LABEL_MASK;
	outer->ttl = TTL_OF_OURS;
	outer->id = ip_id(outer->dont_fragment);
}

/* It is not too long for its way, or that may not be known here. */
static __always_inline bool quick_outer_fits(const struct quick *q, const struct ip_header *outer,
					     const struct next_hop *hop, __u64 now)
{
	__u32 length = outer->payload + ip_header_size(outer->is_v6), path;

	if (hop->mtu && length > hop->mtu)
		return false;
	if (length <= PATH_MTU_MIN_V4)
		return true;
	path = path_mtu(q->backend, now);
	return !path || length <= path;
}

/* VERDICT_CONTINUE: it has to go the long way, and is as it was. */
static __always_inline enum verdict quick_tunnel(const struct quick *q, struct xdp_md *ctx,
						 const struct next_hop *hop, __u64 now)
{
	__u32 hash = quick_hash(q);
	bool is_gue = q->life.forward == FORWARD_GUE;
	struct addr source = tunnel_source(q->backend, hash);
	struct ip_header outer = {
		.src = &source,
		.dst = &q->backend->address,
		.is_v6 = !addr_is_v4(&q->backend->address),
	};
	struct gue gue = {};

	quick_outer(q, hash, &outer);
	if (is_gue) {
		outer.payload += sizeof(gue);
		gue_prepare(q->backend, hash, &outer, &gue);
		if (outer.is_v6 && !quick_gue_checksum(q, &outer, &gue))
			return VERDICT_CONTINUE;
	}
	if (!quick_outer_fits(q, &outer, hop, now) || !ip_fits(&outer) ||
	    bpf_xdp_adjust_head(ctx,
				-(int)(ip_header_size(outer.is_v6) + (is_gue ? sizeof(gue) : 0))))
		return VERDICT_CONTINUE;
	return quick_put(ctx, &outer, is_gue, &gue) ? VERDICT_TX : VERDICT_ABORTED;
}

/* VERDICT_CONTINUE: it has to go the long way; VERDICT_TX: it can be sent. */
static __always_inline enum verdict quick_rewrite(const struct quick *q, struct xdp_md *ctx,
						  const struct next_hop *hop, __u64 now)
{
	if (q->life.forward == FORWARD_DSR)
		return q->is_long ? VERDICT_CONTINUE : VERDICT_TX;
	if (!translates(q->life.forward))
		return quick_tunnel(q, ctx, hop, now);
	if (q->is_long)
		return VERDICT_CONTINUE;
	if (q->direction == FROM_CLIENT && quick_learns(q, ctx))
		return VERDICT_CONTINUE;
	quick_nat(q);
	return VERDICT_TX;
}

/* Returns VERDICT_CONTINUE for what has to go the long way. */
static __always_inline int quick_way(struct xdp_md *ctx, bool is_v6, enum quick_guess guess)
{
	struct quick q = { .is_v6 = is_v6 };
	struct outcome outcome;
	enum verdict verdict;
	struct next_hop hop;
	__u64 now;

	if (!quick_begin(&q, ctx) || !quick_known(&q, ctx, guess))
		return VERDICT_CONTINUE;
	quick_length(&q, ctx);
	now = clock_now();
	if (!quick_goes_on(&q, now) || quick_is_of_another(&q, ctx) || !quick_next_hop(&q, &hop))
		return VERDICT_CONTINUE;
	next_hop_complete(&hop, ctx, q.eth, 0);
	verdict = quick_rewrite(&q, ctx, &hop, now);
	if (verdict == VERDICT_CONTINUE)
		return VERDICT_CONTINUE;
	if (q.flow->last_seen != now)
		q.flow->last_seen = now;
	outcome = (struct outcome){
		.verdict = verdict == VERDICT_TX ? send_as_tagged(ctx, &hop) : verdict,
		.reason = q.direction == FROM_CLIENT ? REASON_FORWARDED : REASON_REPLY,
		.service = q.backend->service,
		.backend = q.flow->backend,
		.length = q.frame_length,
	};
	asm volatile("" ::: "memory"); /* all of the flow has been read */
	if (verdict == VERDICT_ABORTED)
		outcome.reason = REASON_TRUNCATED;
	/* while we read it, its slot was cleared, and maybe filled: who knows what the packet is now */
	if (flow_life(q.flow).turn != q.life.turn) {
		outcome.verdict = VERDICT_DROP;
		outcome.reason = REASON_FLOW_TABLE_BUSY;
	}
	return finish(outcome);
}

/* Verified by itself, like parse(). */
__noinline int quick_way_v4(struct xdp_md *ctx, enum quick_guess guess)
{
	return quick_way(ctx, false, guess);
}

/* Verified by itself, like parse(). */
__noinline int quick_way_v6(struct xdp_md *ctx, enum quick_guess guess)
{
	return quick_way(ctx, true, guess);
}

static __always_inline enum quick_guess quick_look(struct xdp_md *ctx, bool is_v6)
{
	struct quick q = { .is_v6 = is_v6 };

	return quick_begin(&q, ctx) ? quick_guess(&q) : GUESS_NOTHING;
}

/* An ICMP message to and from others may be about a packet of ours. */
static __always_inline bool quick_is_icmp(struct xdp_md *ctx, bool is_v6)
{
	__u32 at = is_v6 ? offsetof(struct ipv6hdr, nexthdr) : offsetof(struct iphdr, protocol);
	__u8 *protocol = packet_at(ctx, sizeof(struct ethhdr) + at, sizeof(*protocol));

	return protocol && *protocol == icmp_of(is_v6);
}

/* Returns VERDICT_CONTINUE for what has to go the long way. */
static __always_inline int short_way(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	enum quick_guess guess;
	__be16 protocol;

	if (data + sizeof(struct ethhdr) > (void *)(long)ctx->data_end)
		return VERDICT_CONTINUE;
	protocol = *(__be16 *)(data + offsetof(struct ethhdr, h_proto));
	if (protocol == bpf_htons(ETH_P_IP))
		guess = quick_look(ctx, false);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		guess = quick_look(ctx, true);
	else
		return VERDICT_CONTINUE;
	if (guess == GUESS_NOTHING)
		return VERDICT_CONTINUE;
	if (guess == GUESS_NOBODY && quick_is_icmp(ctx, protocol == bpf_htons(ETH_P_IPV6)))
		return VERDICT_CONTINUE;
	if (guess == GUESS_NOBODY)
		return finish(
			(struct outcome){ .verdict = VERDICT_PASS, .reason = REASON_NOT_OURS });
	return protocol == bpf_htons(ETH_P_IP) ? quick_way_v4(ctx, guess) :
						 quick_way_v6(ctx, guess);
}

#endif
