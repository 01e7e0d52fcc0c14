/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragmentation (RFC 791, 3.2; RFC 8200, 4.5) of what has been rewritten and may not leave in one piece. Of a tunnel's
 * packets with IPv4 inside that is cut which is inside: each piece is a whole packet to who unpacks it, who need not put
 * anything together, and to network cards, which find ports in it (RFC 4459, 3.3). IPv6 inside stays whole; then
 * what is outside is cut.
 */
#ifndef TINYLB_CUT_H
#define TINYLB_CUT_H

#include "mtu.h"
#include "parcel.h"

#define IPV4_OPTION_COPIED 0x80

/* More than all that pieces have before their data: at most two IP headers, GUE's and a fragment header. */
#define CUT_HEADERS_MAX 128
#define LINK_HEADER_MAX 24
struct cut_headers {
	__u64 words[CUT_HEADERS_MAX / 8];
	__u64 room[CUT_HEADERS_MAX / 8]; /* that the verifier may see behind the last header */
	__u64 link[LINK_HEADER_MAX / 8]; /* Ethernet's, with tags */
};

/* data plane only: the next piece's headers. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct cut_headers);
	__uint(max_entries, 1);
} all_cut_headers SEC(".maps");

/* Pieces of one packet; there are no more frames to store them in. */
#define CUT_PIECES_MAX 256

struct cut_walk {
	struct xdp_md *ctx;
	__u64 now;
	struct frame_chain chain;
	__u32 interface; /* to leave by */
	__u32 l3_offset; /* of the first IP header, from the frame's first byte on */
	__u32 begin; /* of the next piece's data, too */
	__u32 left; /* of the data */
	__u32 most; /* of it in one piece */
	__u32 offset; /* of the next piece in its datagram */
	__u32 at; /* of the IP header that is cut, from the first one on */
	__u32 size; /* of it, with options or fragment header */
	bool is_v6; /* it is */
	bool outer_v6; /* the one before it is */
	bool is_gue; /* with GUE between them */
	bool more; /* what is cut is not its datagram's end */
	bool failed;
};

static __always_inline struct cut_headers *cut_headers(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&all_cut_headers, &zero);
}

static __always_inline void *cut_header(struct cut_headers *headers, __u32 at)
{
	return (void *)headers->words + bounded(at, CUT_HEADERS_MAX);
}

/* Puts another word in place, and into the checksum: one that is wrong stays wrong. */
static __always_inline void cut_replace(__be16 *word, __be16 other, __sum16 *check)
{
	*check = csum_update(*check, (__u64)(__u16) ~*word + other);
	*word = other;
}

static __always_inline void cut_patch_v4(struct iphdr *ip, const struct cut_walk *walk,
					 __u32 length, bool more)
{
	__u16 fragment = walk->offset / 8 | (more ? IPV4_MORE_FRAGMENTS : 0);

	cut_replace(&ip->tot_len, bpf_htons(walk->size + length), &ip->check);
	cut_replace(&ip->frag_off, bpf_htons(fragment), &ip->check);
}

static __always_inline void cut_patch_v6(struct ipv6hdr *ip, const struct cut_walk *walk,
					 __u32 length, bool more)
{
	struct ipv6_extension *fragment = (void *)(ip + 1);

	ip->payload_len = bpf_htons(sizeof(*fragment) + length);
	fragment->fragment = bpf_htons(walk->offset | more);
}

/* GUE's length and, over IPv6, checksum (RFC 8200, 8.1). `behind`: bytes of headers from GUE's on. */
static __always_inline bool cut_patch_gue(struct cut_headers *headers, const struct cut_walk *walk,
					  __u32 behind, __u32 length)
{
	struct udphdr *udp = cut_header(headers, ip_header_size(walk->outer_v6));
	struct ipv6hdr *ip = (void *)headers->words;
	__u64 sum;
	__u16 data;

	udp->len = bpf_htons(behind + length);
	if (!walk->outer_v6)
		return true;
	udp->check = 0;
	if (!csum_range(walk->ctx, walk->begin, length, &data))
		return false;
	sum = (__u32)bpf_csum_diff(NULL, 0, (void *)&ip->saddr, 2 * sizeof(ip->saddr), 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, (void *)udp, bounded(behind, CUT_HEADERS_MAX) & ~3U,
				    0);
	sum += (__u64)data + udp->len + bpf_htons(IPPROTO_UDP);
	udp->check = ~csum_fold(sum);
	if (!udp->check)
		udp->check = 0xffff;
	return true;
}

/* What is around the piece; each is a packet of its own (RFC 6864, 4.1). */
static __always_inline bool cut_patch_outer(struct cut_headers *headers,
					    const struct cut_walk *walk, __u32 length)
{
	__u32 ip_size = ip_header_size(walk->outer_v6), behind = walk->at - ip_size + walk->size;
	struct ipv6hdr *v6 = (void *)headers->words;
	struct iphdr *v4 = (void *)headers->words;

	if (walk->outer_v6) {
		v6->payload_len = bpf_htons(behind + length);
	} else {
		cut_replace(&v4->tot_len, bpf_htons(ip_size + behind + length), &v4->check);
		cut_replace(&v4->id, bpf_htons(bpf_ntohs(v4->id) + 1), &v4->check);
	}
	return !walk->is_gue || cut_patch_gue(headers, walk, behind, length);
}

struct option_bytes {
	__u32 at;
	__u32 end;
	__u32 next; /* option */
	bool drop;
	__u64 change;
};

static long option_byte_step(__u32 i, struct option_bytes *walk)
{
	struct cut_headers *headers = cut_headers();
	__u8 *byte;
	__u32 size = 1;

	if (!headers || walk->at >= walk->end)
		return 1;
	byte = cut_header(headers, walk->at);
	if (walk->at == walk->next) {
		if (*byte == OPTION_END)
			return 1;
		if (*byte != OPTION_NOP)
			size = byte[1];
		if (!size || walk->at + size > walk->end || (size == 1 && *byte != OPTION_NOP))
			return 1;
		walk->next += size;
		walk->drop = !(*byte & IPV4_OPTION_COPIED);
	}
	if (walk->drop) {
		walk->change += (__u16)~bpf_htons(walk->at & 1 ? *byte : *byte << 8);
		walk->change += bpf_htons(walk->at & 1 ? OPTION_NOP : OPTION_NOP << 8);
		*byte = OPTION_NOP;
	}
	walk->at++;
	return 0;
}

/* Options that only the first fragment carries give way to what does nothing. */
static __always_inline void cut_drop_options(struct cut_headers *headers,
					     const struct cut_walk *walk)
{
	struct iphdr *ip = cut_header(headers, walk->at);
	struct option_bytes bytes = {
		.at = walk->at + sizeof(*ip),
		.next = walk->at + sizeof(*ip),
		.end = walk->at + walk->size,
	};

	bpf_loop(OPTIONS_MAX, option_byte_step, &bytes, 0);
	ip->check = csum_update(ip->check, bytes.change);
}

/* Stores the piece as the frame that it will be. */
static __always_inline bool cut_store(struct cut_headers *headers, const struct cut_walk *walk,
				      __u32 index, __u32 length)
{
	__u32 size = walk->at + walk->size, data = length;
	struct frame_bytes *frame = frame_bytes(index);
	struct frame_slot *slot = frame_slot(index);
	__u64 *words = (void *)frame, *head;

	if (!slot || !frame)
		return false;
	head = (void *)slot->head;
	for (int i = 0; i < LINK_HEADER_MAX / 8; i++)
		head[i] = headers->link[i];
	for (int i = 0; i < CUT_HEADERS_MAX / 8; i++)
		words[i] = headers->words[i];
	slot->interface = walk->interface;
	slot->head_length = walk->l3_offset;
	slot->offset = 0;
	slot->length = size + length;
	return is_size(&data, FRAME_MAX - CUT_HEADERS_MAX) &&
	       !bpf_xdp_load_bytes(walk->ctx, walk->begin,
				   frame->bytes + bounded(size, CUT_HEADERS_MAX), data);
}

static long cut_step(__u32 i, struct cut_walk *walk)
{
	__u32 length = walk->left < walk->most ? walk->left : walk->most;
	struct cut_headers *headers = cut_headers();
	bool more = length < walk->left || walk->more;
	struct frame_ref ref = {};

	walk->failed = true;
	if (!headers || !frame_take(&ref, walk->now, walk->now + PARCEL_NS))
		return 1;
	chain_append(&walk->chain, ref);
	if (walk->is_v6)
		cut_patch_v6(cut_header(headers, walk->at), walk, length, more);
	else
		cut_patch_v4(cut_header(headers, walk->at), walk, length, more);
	if ((walk->at && !cut_patch_outer(headers, walk, length)) ||
	    !cut_store(headers, walk, ref.index, length))
		return 1;
	if (!i && !walk->is_v6)
		cut_drop_options(headers, walk);
	walk->failed = false;
	walk->begin += length;
	walk->offset += length;
	walk->left -= length;
	return !walk->left;
}

static __always_inline void cut_begin_v4(struct iphdr *ip, struct cut_walk *walk)
{
	__u16 fragment = bpf_ntohs(ip->frag_off);

	if (fragment & IPV4_DONT_FRAGMENT) /* not so far */
		cut_replace(&ip->id, bpf_htons(random_u32()), &ip->check);
	walk->size = ip->ihl * 4;
	walk->begin += walk->size;
	walk->left = bpf_ntohs(ip->tot_len) - walk->size;
	walk->offset = (fragment & IPV4_OFFSET) * 8;
	walk->more = fragment & IPV4_MORE_FRAGMENTS;
}

static __always_inline void cut_begin_v6(struct ipv6hdr *ip, struct cut_walk *walk)
{
	struct ipv6_extension *fragment = (void *)(ip + 1);
	__u16 said;

	walk->size = sizeof(*ip) + sizeof(*fragment);
	walk->begin += sizeof(*ip);
	walk->left = bpf_ntohs(ip->payload_len);
	if (ip->nexthdr == IPPROTO_FRAGMENT) { /* it is one already */
		said = bpf_ntohs(fragment->fragment);
		walk->begin += sizeof(*fragment);
		walk->left -= sizeof(*fragment);
		walk->offset = said & IPV6_FRAGMENT_OFFSET;
		walk->more = said & IPV6_MORE_FRAGMENTS;
		return;
	}
	*fragment = (struct ipv6_extension){ .next = ip->nexthdr, .id = random_u32() };
	ip->nexthdr = IPPROTO_FRAGMENT;
}

/*
 * As few pieces as there can be, of about the same length: a tiny one is what filters take for an attack, and too short
 * for where the kernel thinks that a local sender's checksum is missing.
 */
static __always_inline __u32 cut_evenly(__u32 left, __u32 most)
{
	__u32 pieces;

	if (most > FRAME_MAX - CUT_HEADERS_MAX)
		most = FRAME_MAX - CUT_HEADERS_MAX;
	pieces = (left + most - 1) / most;
	return ((left + pieces - 1) / pieces + 7) & ~7U;
}

/* Finds out which header is cut, and into what. */
static __always_inline bool cut_begin(const struct packet *pkt, struct cut_walk *walk)
{
	__u32 there = bpf_xdp_get_buff_len(walk->ctx) - pkt->l3_offset, link = pkt->l3_offset;
	__u32 before;
	enum forward_mode forward = pkt->flow.life.forward;
	struct cut_headers *headers = cut_headers();

	if (there > CUT_HEADERS_MAX)
		there = CUT_HEADERS_MAX;
	if (!headers || !is_size(&there, CUT_HEADERS_MAX) || !is_size(&link, LINK_HEADER_MAX) ||
	    bpf_xdp_load_bytes(walk->ctx, 0, headers->link, link) ||
	    bpf_xdp_load_bytes(walk->ctx, link, headers->words, there))
		return false;
	walk->l3_offset = walk->begin = pkt->l3_offset;
	walk->is_v6 = *(__u8 *)headers->words >> 4 == 6;
	if (tunnels(forward) && !pkt->is_v6) {
		walk->outer_v6 = walk->is_v6;
		walk->is_v6 = false;
		walk->is_gue = forward == FORWARD_GUE;
		walk->at = ip_header_size(walk->outer_v6) + (walk->is_gue ? sizeof(struct gue) : 0);
		walk->begin += walk->at;
	}
	if (walk->is_v6)
		cut_begin_v6(cut_header(headers, walk->at), walk);
	else
		cut_begin_v4(cut_header(headers, walk->at), walk);
	before = walk->at + walk->size;
	if (pkt->cut_to < before + 8 || walk->left > IP_LENGTH_MAX)
		return false;
	walk->most = cut_evenly(walk->left, (pkt->cut_to - before) & ~7U);
	return true;
}

/* The kernel gives nothing out from 64 KiB on: of a frame that is longer, headers go. They are known by now. */
static __always_inline bool cut_reaches(struct cut_walk *walk)
{
	if (bpf_xdp_get_buff_len(walk->ctx) <= 0xffff)
		return true;
	if (bpf_xdp_adjust_head(walk->ctx, walk->begin))
		return false;
	walk->begin = 0;
	return true;
}

/*
 * Cuts the packet, which is as it would leave by `interface`, into pieces of at most pkt->cut_to bytes. False: it
 * cannot be. Verified by itself, like parse().
 */
__noinline bool cut_up(struct xdp_md *ctx, struct packet *pkt, __u32 interface, __u64 now)
{
	struct cut_walk walk = { .ctx = ctx, .now = now, .interface = interface, .failed = true };

	if (!pkt || !cut_begin(pkt, &walk) || !cut_reaches(&walk))
		return false;
	chain_clear(&walk.chain);
	bpf_loop(CUT_PIECES_MAX, cut_step, &walk, 0);
	if (!walk.failed && !walk.left && parcel_send(ctx, pkt, walk.chain.first))
		return true;
	chain_free(walk.chain.first.index, walk.chain.first.turn);
	return false;
}

#endif
