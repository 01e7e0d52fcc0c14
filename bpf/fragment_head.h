/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The headers that a fragment leaves with. What is known of it is put down when it comes, so that one that is
 * stored, and no packet any more, gets its headers in the same way as one in hand.
 */
#ifndef TINYLB_FRAGMENT_HEAD_H
#define TINYLB_FRAGMENT_HEAD_H

#include "flow.h"
#include "frames.h"
#include "ip.h"
#include "l4.h"
#include "tunnel.h"

/* A fragment as it came. */
struct fragment {
	__u32 ip[10]; /* its header, without options and extension headers */
	struct ethhdr eth;
	__u16 sum; /* over the IP packet */
	__u32 ip_length;
	__u16 l3_offset;
	__u16 header_offset; /* of IPv6's fragment header */
	__u16 payload_offset;
	__u16 place; /* IPv4's field without flags: in units of eight bytes */
	__u8 more;
	__u8 is_v6;
	__u8 pad[2];
};
_Static_assert(sizeof(struct fragment) <= FRAME_HEAD_MAX, "it must fit where the head will be");

static __always_inline struct iphdr *fragment_v4(const struct fragment *in)
{
	return (struct iphdr *)in->ip;
}

static __always_inline struct ipv6hdr *fragment_v6(const struct fragment *in)
{
	return (struct ipv6hdr *)in->ip;
}

/* The IP header's place in the head; what is before it ends there, however many tags there are. */
#define HEAD_L3 sizeof(struct link_header)

/* The fragment in hand, or one that is taken out of its slot, and its new head. */
struct fragment_work {
	struct fragment in;
	struct link_tags tags; /* that it leaves with */
	__u32 limit; /* how long IP packets may be then, and those that come in; 0: that is not known */
	__u32 came_by;
	__u8 head[FRAME_HEAD_MAX];
	__u32 start; /* of the head's first byte */
	__u32 length; /* of the head */
	__u32 replaced; /* bytes that the head takes the place of */
	__u32 id; /* for the fragment header, if that stays */
	struct frame_chain chain; /* frames that will leave in one parcel */
	struct frame_ref
		cut; /* a stored frame that is too long, and as far as pieces of it are made: */
	__u32 cut_done; /* bytes */
	__u32 cut_left;
	__u32 cut_most; /* in one piece */
	bool has_id;
	bool to_host; /* as it came */
	bool cut_failed;
	__u8 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct fragment_work);
	__uint(max_entries, 1);
} fragment_works SEC(".maps");

static __always_inline struct fragment_work *fragment_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&fragment_works, &zero);
}

/* Puts down the frame in hand, but for its sum. Verified by itself, like parse(). */
__noinline bool fragment_describe(struct xdp_md *ctx, const struct packet *pkt)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth));
	struct fragment_work *work = fragment_work();
	struct ipv6hdr *v6;
	struct iphdr *v4;

	if (!pkt || !work || !eth)
		return false;
	work->in.eth = *eth;
	work->in.ip_length = pkt->ip_length;
	work->in.l3_offset = pkt->l3_offset;
	work->in.header_offset = pkt->fragment_header;
	work->in.payload_offset = pkt->payload_offset;
	work->in.place = pkt->fragment_offset / 8;
	work->in.more = pkt->more_fragments;
	work->in.is_v6 = pkt->is_v6;
	if (pkt->is_v6) {
		v6 = packet_at(ctx, pkt->l3_offset, sizeof(*v6));
		if (v6)
			*fragment_v6(&work->in) = *v6;
		return v6;
	}
	v4 = packet_at(ctx, pkt->l3_offset, sizeof(*v4));
	if (v4)
		*fragment_v4(&work->in) = *v4;
	return v4;
}

static __always_inline void head_set_family(struct fragment_work *work, bool is_v6)
{
	__be16 protocol = is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	__builtin_memcpy(work->head + HEAD_L3 - sizeof(protocol), &protocol, sizeof(protocol));
}

/* The link header toward the next hop; up to the host Ethernet's, as it came. */
static __always_inline void head_link(struct fragment_work *work, const struct next_hop *hop)
{
	struct ethhdr *eth = (struct ethhdr *)(work->head + HEAD_L3 - sizeof(*eth));
	__be16 *words = (__be16 *)work->head;
	__u32 inner = work->tags.tag[1] ? work->tags.tag[1] : work->tags.tag[0];
	__u32 size = sizeof(*eth) + (work->to_host ? 0 : tags_size(&work->tags));

	work->start = HEAD_L3 - size;
	work->length = size;
	work->replaced = work->to_host ? sizeof(*eth) : work->in.l3_offset;
	work->has_id = false;
	if (work->to_host) {
		*eth = work->in.eth;
		return;
	}
	/* as many tags as there are stand before the EtherType */
	words[6] = bpf_htons(work->tags.tag[0] >> 16);
	words[7] = bpf_htons(work->tags.tag[0]);
	words[8] = bpf_htons(inner >> 16);
	words[9] = bpf_htons(inner);
	if (size == sizeof(*eth) + 2 * sizeof(struct vlan_tag))
		eth = (struct ethhdr *)work->head;
	else if (size > sizeof(*eth))
		eth = (struct ethhdr *)(work->head + sizeof(struct vlan_tag));
	mac_copy(eth->h_dest, hop->mac);
	mac_copy(eth->h_source, hop->source_mac);
	head_set_family(work, work->in.is_v6);
}

/* Puts `what` into the head, so far behind the link header. */
#define head_put(work, offset, what) \
	__builtin_memcpy((work)->head + HEAD_L3 + (offset), what, sizeof(*(what)))

static __always_inline __u8 fragment_tos(const struct fragment *in)
{
	return in->is_v6 ? bpf_ntohl(in->ip[0]) >> 20 : fragment_v4(in)->tos;
}

static __always_inline __u8 fragment_ttl(const struct fragment *in)
{
	return in->is_v6 ? fragment_v6(in)->hop_limit : fragment_v4(in)->ttl;
}

/* Puts an IP header of our own into the head. */
static __always_inline void head_put_ip(struct fragment_work *work, const struct ip_header *header)
{
	head_set_family(work, header->is_v6);
	if (header->is_v6)
		ip_make_v6(header, (struct ipv6hdr *)(work->head + HEAD_L3));
	else
		ip_make_v4(header, (struct iphdr *)(work->head + HEAD_L3));
	work->length += ip_header_size(header->is_v6);
}

/* IPv6 (RFC 8200, 4.5). */
struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 place; /* in units of eight bytes << 3, and flag */
	__be32 id;
};

/* Its headers in the other IP version (RFC 7915, 4.1, 5.1.1). Verified by itself, like parse(). */
__noinline bool head_translate(const struct packet *pkt)
{
	struct fragment_work *work = fragment_work();
	struct fragment_header fragment = {};
	struct ip_header header = {};

	if (!pkt || !work)
		return false;
	header.src = &pkt->other.dst;
	header.dst = &pkt->other.src;
	header.is_v6 = !work->in.is_v6;
	header.tos = fragment_tos(&work->in);
	header.ttl = fragment_ttl(&work->in) - 1;
	work->replaced = work->in.payload_offset;
	header.payload = work->in.ip_length - (work->in.payload_offset - work->in.l3_offset);
	header.protocol = pkt->tuple.protocol;
	if (header.is_v6) {
		header.payload += sizeof(fragment);
		header.protocol = IPPROTO_FRAGMENT;
		fragment.next = pkt->tuple.protocol;
		fragment.place = bpf_htons(work->in.place << 3 | work->in.more);
		fragment.id = bpf_htonl(pkt->datagram_id);
	} else {
		header.id = pkt->datagram_id;
		header.fragment = work->in.place | (work->in.more ? IPV4_MORE_FRAGMENTS : 0);
	}
	if (!ip_fits(&header))
		return false;
	head_put_ip(work, &header);
	if (header.is_v6) {
		head_put(work, sizeof(struct ipv6hdr), &fragment);
		work->length += sizeof(fragment);
	}
	return true;
}

/* Its addresses, TTL and id exchanged. Verified by itself, like parse(). */
__noinline bool head_nat(const struct packet *pkt)
{
	struct fragment_work *work = fragment_work();
	const struct addr *src, *dst;
	struct ipv6hdr *v6;
	struct iphdr *v4;
	__u64 change;

	if (!pkt || !work)
		return false;
	src = &pkt->other.dst;
	dst = &pkt->other.src;
	if (work->in.is_v6) {
		v6 = fragment_v6(&work->in);
		v6->hop_limit--;
		__builtin_memcpy(&v6->saddr, src, sizeof(*src));
		__builtin_memcpy(&v6->daddr, dst, sizeof(*dst));
		head_put(work, 0, v6);
		work->has_id = true;
		work->id = bpf_htonl(pkt->datagram_id);
	} else {
		v4 = fragment_v4(&work->in);
		change = (__u64)(__u32)~v4->saddr + (__u32)~v4->daddr + (__u16)~v4->id +
			 src->word[3] + dst->word[3] + bpf_htons(pkt->datagram_id) + TTL_CHANGE;
		v4->ttl--;
		v4->saddr = src->word[3];
		v4->daddr = dst->word[3];
		v4->id = bpf_htons(pkt->datagram_id);
		v4->check = csum_update(v4->check, change);
		head_put(work, 0, v4);
	}
	work->length += ip_header_size(work->in.is_v6);
	work->replaced += ip_header_size(work->in.is_v6);
	return true;
}

/* What stands before it in its own packet to the backend. Verified by itself, like parse(). */
__noinline bool head_tunnel(const struct packet *pkt, const struct backend *backend, bool is_gue)
{
	struct fragment_work *work = fragment_work();
	struct ip_header outer = {};
	struct addr source;
	struct gue gue;
	__u32 hash;

	if (!pkt || !work || !backend)
		return false;
	hash = tuple_hash(&pkt->tuple);
	source = tunnel_source(backend, hash);
	outer.src = &source;
	outer.dst = &backend->address;
	outer.is_v6 = !addr_is_v4(&backend->address);
	outer.payload = work->in.ip_length + (is_gue ? sizeof(gue) : 0);
	outer.flow_label = hash & FLOW_LABEL_MASK;
	outer.protocol = work->in.is_v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer.tos = fragment_tos(&work->in);
	outer.ttl = TTL_OF_OURS;
	outer.dont_fragment = work->in.is_v6 ||
			      fragment_v4(&work->in)->frag_off & bpf_htons(IPV4_DONT_FRAGMENT);
	outer.id = ip_id(outer.dont_fragment);
	if (!ip_fits(&outer))
		return false;
	if (is_gue)
		gue_prepare(backend, hash, &outer, &gue);
	if (is_gue && outer.is_v6)
		gue_checksum(&outer, work->in.sum, &gue);
	head_put_ip(work, &outer);
	if (!is_gue)
		return true;
	if (outer.is_v6)
		head_put(work, sizeof(struct ipv6hdr), &gue);
	else
		head_put(work, sizeof(struct iphdr), &gue);
	work->length += sizeof(gue);
	return true;
}

/* Makes the head of the described fragment, of the flow in pkt. False: it would be too long. Verified by itself, like parse(). */
__noinline bool fragment_head(const struct packet *pkt)
{
	struct fragment_work *work = fragment_work();
	enum forward_mode forward;
	struct backend *backend;

	if (!pkt || !work)
		return false;
	head_link(work, &pkt->hop);
	forward = pkt->flow.life.forward;
	if (work->to_host || forward == FORWARD_DSR)
		return true;
	if (translates(forward))
		return work->in.is_v6 == addr_is_v4(&pkt->other.src) ? head_translate(pkt) :
								       head_nat(pkt);
	backend = flow_backend(pkt);
	return backend && head_tunnel(pkt, backend, forward == FORWARD_GUE);
}

#endif
