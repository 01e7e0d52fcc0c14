/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about packets that were rewritten: so are they (RFC 5508, 4; across families RFC 7915, 4.2, 4.3, 5.2 and 5.3). */
#ifndef TINYLB_ERROR_H
#define TINYLB_ERROR_H

#include "icmp.h"
#include "mtu.h"
#include "nat.h"
#include "quote.h"
#include "translate.h"

/* Codes. */
#define V4_NO_PROTOCOL 2
#define V4_UNTRANSLATABLE 14 /* host precedence violation */
#define V4_CODES 15 /* the last that there is */
#define V4_PROHIBITED (1 << 9 | 1 << 10 | 1 << 13 | 1 << 15)
#define V4_NO_HOST 1
#define V4_HOST_PROHIBITED 10
#define V4_BAD_LENGTH 2
#define V6_NO_ROUTE 0
#define V6_PROHIBITED 1
#define V6_BAD_HEADER 0
#define V6_NO_NEXT_HEADER 1

#define HEADERS_DIFFER (sizeof(struct ipv6hdr) - sizeof(struct iphdr))

/* Where the field of one header is in the other; a field that it lacks has none. */
#define NO_POINTER 0xff

static __always_inline __u8 pointer_to_v6(__u8 pointer)
{
	if (pointer <= offsetof(struct iphdr, tos))
		return pointer; /* version; TOS and traffic class */
	if (pointer < offsetof(struct iphdr, id))
		return offsetof(struct ipv6hdr, payload_len);
	if (pointer == offsetof(struct iphdr, ttl))
		return offsetof(struct ipv6hdr, hop_limit);
	if (pointer == offsetof(struct iphdr, protocol))
		return offsetof(struct ipv6hdr, nexthdr);
	if (pointer < offsetof(struct iphdr, saddr) || pointer >= sizeof(struct iphdr))
		return NO_POINTER;
	return pointer < offsetof(struct iphdr, daddr) ? offsetof(struct ipv6hdr, saddr) :
							 offsetof(struct ipv6hdr, daddr);
}

static __always_inline __u8 pointer_to_v4(__u32 pointer)
{
	if (pointer <= 1)
		return pointer;
	if (pointer < offsetof(struct ipv6hdr, payload_len) || pointer >= sizeof(struct ipv6hdr))
		return NO_POINTER; /* the flow label, or behind the header */
	if (pointer < offsetof(struct ipv6hdr, nexthdr))
		return offsetof(struct iphdr, tot_len);
	if (pointer == offsetof(struct ipv6hdr, nexthdr))
		return offsetof(struct iphdr, protocol);
	if (pointer == offsetof(struct ipv6hdr, hop_limit))
		return offsetof(struct iphdr, ttl);
	return pointer < offsetof(struct ipv6hdr, daddr) ? offsetof(struct iphdr, saddr) :
							   offsetof(struct iphdr, daddr);
}

/* An error of IPv6, of which nothing is set yet. */
static __always_inline bool unreachable_to_v6(const struct icmp_error *v4,
					      const struct packet *quote, struct icmp_error *v6)
{
	__u32 mtu = error_mtu(v4, quote) + HEADERS_DIFFER;

	v6->type = ICMPV6_UNREACHABLE;
	switch (v4->code) {
	case V4_NO_PROTOCOL:
		v6->type = ICMPV6_PARAMETER_PROBLEM;
		v6->code = V6_NO_NEXT_HEADER;
		v6->rest = bpf_htonl(offsetof(struct ipv6hdr, nexthdr));
		return true;
	case ICMPV4_PORT:
		v6->code = ICMPV6_PORT;
		return true;
	case ICMPV4_FRAGMENTATION_NEEDED:
		v6->type = ICMPV6_PACKET_TOO_BIG;
		v6->rest = bpf_htonl(mtu < IPV6_MTU_MIN ? IPV6_MTU_MIN : mtu);
		return true;
	}
	v6->code = v4->code <= V4_CODES && 1 << v4->code & V4_PROHIBITED ? V6_PROHIBITED :
									   V6_NO_ROUTE;
	return v4->code <= V4_CODES && v4->code != V4_UNTRANSLATABLE;
}

/* False: there is no such error in IPv6. */
static __always_inline bool error_to_v6(const struct icmp_error *v4, const struct packet *quote,
					struct icmp_error *v6)
{
	__u8 pointer;

	if (v4->type == ICMPV4_UNREACHABLE)
		return unreachable_to_v6(v4, quote, v6);
	v6->code = v4->code;
	if (v4->type == ICMPV4_TIME_EXCEEDED) {
		v6->type = ICMPV6_TIME_EXCEEDED;
		return true;
	}
	pointer = pointer_to_v6(bpf_ntohl(v4->rest) >> 24);
	v6->type = ICMPV6_PARAMETER_PROBLEM;
	v6->code = V6_BAD_HEADER;
	v6->rest = bpf_htonl(pointer);
	return pointer != NO_POINTER && (!v4->code || v4->code == V4_BAD_LENGTH);
}

static __always_inline bool unreachable_to_v4(const struct icmp_error *v6, struct icmp_error *v4)
{
	v4->type = ICMPV4_UNREACHABLE;
	v4->code = V4_NO_HOST;
	if (v6->code == ICMPV6_PORT)
		v4->code = ICMPV4_PORT;
	else if (v6->code == V6_PROHIBITED)
		v4->code = V4_HOST_PROHIBITED;
	return v6->code <= ICMPV6_PORT;
}

static __always_inline bool problem_to_v4(const struct icmp_error *v6, struct icmp_error *v4)
{
	__u8 pointer = pointer_to_v4(bpf_ntohl(v6->rest));

	if (v6->code == V6_NO_NEXT_HEADER) {
		v4->type = ICMPV4_UNREACHABLE;
		v4->code = V4_NO_PROTOCOL;
		return true;
	}
	v4->type = ICMPV4_PARAMETER_PROBLEM;
	v4->rest = bpf_htonl((__u32)pointer << 24);
	return v6->code == V6_BAD_HEADER && pointer != NO_POINTER;
}

/* False: there is no such error in IPv4. */
static __always_inline bool error_to_v4(const struct icmp_error *v6, struct icmp_error *v4)
{
	__u32 mtu = bpf_ntohl(v6->rest);

	switch (v6->type) {
	case ICMPV6_UNREACHABLE:
		return unreachable_to_v4(v6, v4);
	case ICMPV6_PACKET_TOO_BIG:
		/* every link of IPv6 takes that much (RFC 8200, 5) */
		if (mtu < IPV6_MTU_MIN)
			mtu = IPV6_MTU_MIN;
		mtu -= HEADERS_DIFFER;
		v4->type = ICMPV4_UNREACHABLE;
		v4->code = ICMPV4_FRAGMENTATION_NEEDED;
		v4->rest = bpf_htonl(mtu > IP_LENGTH_MAX ? IP_LENGTH_MAX : mtu);
		return true;
	case ICMPV6_TIME_EXCEEDED:
		v4->type = ICMPV4_TIME_EXCEEDED;
		v4->code = v6->code;
		return true;
	}
	return problem_to_v4(v6, v4);
}

/* Puts other ports into what is quoted, and returns by how much that, with the other addresses, changes a checksum over it. */
static __always_inline __u64 quote_put_ports(struct xdp_md *ctx, const struct packet *quote,
					     const struct tuple *is, __u64 address_change)
{
	__be16 *ports = packet_at(ctx, quote->l4_offset, 2 * sizeof(*ports));
	__sum16 *field = l4_checksum_field(ctx, quote);
	__u64 change;
	__u16 was;

	if (!ports)
		return 0;
	change = (__u64)(__u16)~ports[0] + (__u16)~ports[1] + is->sport + is->dport;
	ports[0] = is->sport;
	ports[1] = is->dport;
	if (!field || quote->l4_length < l4_checksum_offset(quote) + sizeof(*field) ||
	    (quote->tuple.protocol == IPPROTO_UDP && !*field))
		return change;
	was = *field;
	*field = csum_update(was, address_change + change);
	if (quote->tuple.protocol == IPPROTO_UDP && !*field)
		*field = 0xffff;
	return change + (__u16)~was + *field;
}

/* The same for the addresses of a quoted IPv4 header, whose own checksum makes up for them. */
static __always_inline __u64 quote_put_v4(struct xdp_md *ctx, const struct packet *quote,
					  const struct tuple *is, __u64 address_change)
{
	struct iphdr *ip = packet_at(ctx, quote->l3_offset, sizeof(*ip));
	__u16 was;

	if (!ip)
		return 0;
	was = ip->check;
	ip->saddr = is->src.word[3];
	ip->daddr = is->dst.word[3];
	ip->check = csum_update(was, address_change);
	return address_change + (__u16)~was + ip->check;
}

static __always_inline __u64 quote_put_v6(struct xdp_md *ctx, const struct packet *quote,
					  const struct tuple *is, __u64 address_change)
{
	struct ipv6hdr *ip = packet_at(ctx, quote->l3_offset, sizeof(*ip));

	if (!ip)
		return 0;
	__builtin_memcpy(&ip->saddr, &is->src, sizeof(is->src));
	__builtin_memcpy(&ip->daddr, &is->dst, sizeof(is->dst));
	return address_change;
}

static __always_inline __u64 addresses_change(const struct addr *src_was,
					      const struct addr *dst_was, const struct addr *src,
					      const struct addr *dst)
{
	return csum_addr_inverse(src_was) + csum_addr_inverse(dst_was) + csum_addr(src) +
	       csum_addr(dst);
}

/*
 * Whom the error comes from now: whoever its receiver sent the packet to, as it knows nothing of who is behind that. Only
 * where a backend knows the client by its own address, it may also know who is on the way there.
 */
static __always_inline const struct addr *error_source(const struct packet *pkt,
						       const struct packet *quote)
{
	if (pkt->direction == FROM_CLIENT && addr_equal(&pkt->other.dst, &quote->tuple.src))
		return &pkt->tuple.src;
	return &pkt->other.dst;
}

/* In the same family: nothing changes its length. Verified by itself, like parse(). */
__noinline bool error_readdress(struct xdp_md *ctx, const struct packet *pkt)
{
	struct packet *quote = quoted_packet();
	const struct addr *src, *dst;
	struct icmp_error *error;
	__u64 inside, outside, change;

	if (!pkt || !quote)
		return false;
	src = error_source(pkt, quote);
	dst = &pkt->other.src;
	inside = addresses_change(&quote->tuple.src, &quote->tuple.dst, &pkt->other.src,
				  &pkt->other.dst);
	outside = addresses_change(&pkt->tuple.src, &pkt->tuple.dst, src, dst);
	change = pkt->is_v6 ? outside + quote_put_v6(ctx, quote, &pkt->other, inside) :
			      quote_put_v4(ctx, quote, &pkt->other, inside);
	change += quote_put_ports(ctx, quote, &pkt->other, inside);
	error = icmp_at(ctx, pkt);
	if (!error)
		return false;
	error->check = csum_update(error->check, change);
	return pkt->is_v6 ? nat_addresses_v6(ctx, pkt, src, dst) :
			    nat_addresses_v4(ctx, pkt, src, dst, outside);
}

/* The sum over an ICMP message, with what else its checksum covers. */
static __always_inline bool icmp_sum(struct xdp_md *ctx, __u32 offset, __u32 length, bool is_v6,
				     const struct addr *src, const struct addr *dst, __u16 *sum)
{
	if (!csum_range(ctx, offset, length, sum))
		return false;
	if (is_v6)
		*sum = csum_fold((__u64)*sum + csum_pseudo(src, dst, IPPROTO_ICMPV6, length));
	return true;
}

/* How much of what is behind the quoted header is quoted on: nothing that is not of the packet, and what fits. */
static __always_inline __u32 quote_length(const struct packet *quote,
					  const struct icmp_error *error, bool to_v6)
{
	__u32 header = quote->l4_offset - quote->l3_offset, length = quote->l4_length;
	__u32 most = ICMPV6_ERROR_MAX - 2 * sizeof(struct ipv6hdr) - sizeof(*error), said;

	/* of a multi-part message (RFC 4884, 3): in words of 4 bytes, or 8; MTUs are elsewhere, or use all of it */
	said = quote->is_v6 ? (bpf_ntohl(error->rest) >> 24) * 8 :
			      (bpf_ntohl(error->rest) >> 16 & 0xff) * 4;
	if (quote->is_v6 && error->type != ICMPV6_UNREACHABLE &&
	    error->type != ICMPV6_TIME_EXCEEDED)
		said = 0;
	if (said >= header + QUOTED_AT_LEAST && length > said - header)
		length = said - header;
	return to_v6 && length > most ? most : length;
}

/* A header in the other IP version, without its addresses. */
struct converted_header {
	__u32 payload;
	__u16 id;
	__u8 tos;
	__u8 ttl;
	__u8 protocol;
	bool dont_fragment;
	__u8 pad[2];
};

/* An error in the other IP version. */
struct converted_error {
	struct converted_header outer;
	struct converted_header inner;
	struct icmp_error icmp;
	struct addr source;
	__u32 kept; /* of what is behind the quoted header */
	__u16 before; /* the sum of the one that arrived: all ones, if its checksum is right */
	__u16 pad;
};

/* data plane only: the error in hand. The stack is too small for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct converted_error);
	__uint(max_entries, 1);
} converted_errors SEC(".maps");

static __always_inline void header_keep(struct converted_header *to, const struct ip_header *header)
{
	*to = (struct converted_header){
		.payload = header->payload,
		.id = header->id,
		.tos = header->tos,
		.ttl = header->ttl,
		.protocol = header->protocol,
		.dont_fragment = header->dont_fragment,
	};
}

/* Of the quoted packet, as its sender wrote it: its hop limit says how far it came. Verified by itself, like parse(). */
__noinline bool convert_inner(struct xdp_md *ctx, const struct packet *quote,
			      struct converted_error *to)
{
	struct ip_header header = {};

	if (!quote || !to || !ip_read(ctx, quote, &header))
		return false;
	header.is_v6 = !quote->is_v6;
	header.payload = quote->ip_length - (quote->l4_offset - quote->l3_offset);
	header.protocol = quote->tuple.protocol;
	header.dont_fragment = !quote->has_fragment_header;
	header.id = quote->fragment_id;
	header_keep(&to->inner, &header);
	return ip_fits(&header);
}

/* Of the error itself. Verified by itself, like parse(). */
__noinline bool convert_outer(struct xdp_md *ctx, struct packet *pkt, struct converted_error *to)
{
	struct ip_header header = {};

	if (!pkt || !to || !ip_read(ctx, pkt, &header))
		return false;
	if (!pkt->is_v6 && has_source_route(ctx, pkt)) {
		pkt->reason = REASON_SOURCE_ROUTE;
		return false;
	}
	header.is_v6 = !pkt->is_v6;
	header.protocol = icmp_of(header.is_v6);
	header.ttl--;
	header.payload = sizeof(to->icmp) + ip_header_size(header.is_v6) + to->kept;
	translate_fragmentation(pkt, &header);
	header_keep(&to->outer, &header);
	return true;
}

/* The message itself. Verified by itself, like parse(). */
__noinline bool convert_icmp(struct xdp_md *ctx, const struct packet *pkt,
			     const struct packet *quote, struct converted_error *to)
{
	struct icmp_error was, is = {}, *error;

	if (!pkt || !quote || !to)
		return false;
	error = icmp_at(ctx, pkt);
	if (!error)
		return false;
	was = *error;
	if (!(quote->is_v6 ? error_to_v4(&was, &is) : error_to_v6(&was, quote, &is)))
		return false;
	to->icmp = is;
	to->kept = quote_length(quote, &was, !quote->is_v6);
	to->source = *error_source(pkt, quote);
	return icmp_sum(ctx, pkt->l4_offset, pkt->l4_length, pkt->is_v6, &pkt->tuple.src,
			&pkt->tuple.dst, &to->before);
}

/* Verified by itself, like parse(). */
__noinline bool header_write(struct xdp_md *ctx, __u32 offset, const struct converted_header *from,
			     const struct addr *src, const struct addr *dst)
{
	struct ip_header header = { .src = src, .dst = dst };

	if (!from || !src || !dst)
		return false;
	header.payload = from->payload;
	header.id = from->id;
	header.tos = from->tos;
	header.ttl = from->ttl;
	header.protocol = from->protocol;
	header.dont_fragment = from->dont_fragment;
	header.is_v6 = !addr_is_v4(dst);
	return ip_write(ctx, offset, &header);
}

/* Puts the message in place, with a checksum as wrong as the one that it stands for. Verified by itself, like parse(). */
__noinline bool converted_write(struct xdp_md *ctx, __u32 offset, const struct packet *pkt,
				const struct converted_error *from)
{
	struct icmp_error error;
	__u16 after;

	if (!pkt || !from)
		return false;
	error = from->icmp;
	if (!icmp_write(ctx, offset, &error) ||
	    !icmp_sum(ctx, offset, from->outer.payload, !pkt->is_v6, &from->source, &pkt->other.src,
		      &after))
		return false;
	error.check = ~csum_fold((__u64)after + (__u16)~from->before);
	return icmp_write(ctx, offset, &error);
}

/* Puts the headers of the other family before what is kept. */
static __always_inline bool converted_put(struct xdp_md *ctx, struct packet *pkt,
					  const struct packet *quote,
					  const struct converted_error *from)
{
	bool is_v6 = !pkt->is_v6;
	__u32 ip = ip_header_size(is_v6), end, offset;

	end = quote->l4_offset + from->kept;
	if (end != pkt->l3_offset + pkt->ip_length && !cut(ctx, end))
		return false;
	if (!replace_headers(ctx, pkt, quote->l4_offset - pkt->l3_offset,
			     2 * ip + sizeof(from->icmp), is_v6))
		return false;
	offset = pkt->l3_offset + ip;
	return header_write(ctx, pkt->l3_offset, &from->outer, &from->source, &pkt->other.src) &&
	       header_write(ctx, offset + sizeof(from->icmp), &from->inner, &pkt->other.src,
			    &pkt->other.dst) &&
	       converted_write(ctx, offset, pkt, from);
}

/* The quoted ports become those that its sender wrote. Verified by itself, like parse(). */
__noinline bool convert_ports(struct xdp_md *ctx, const struct packet *pkt,
			      const struct packet *quote)
{
	if (!pkt || !quote)
		return false;
	quote_put_ports(ctx, quote, &pkt->other,
			addresses_change(&quote->tuple.src, &quote->tuple.dst, &pkt->other.src,
					 &pkt->other.dst));
	return true;
}

/* To the other family. Verified by itself, like parse(). */
__noinline bool error_cross(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 zero = 0;
	struct converted_error *to = bpf_map_lookup_elem(&converted_errors, &zero);
	struct packet *quote = quoted_packet();

	if (!pkt || !quote || !to)
		return false;
	return convert_icmp(ctx, pkt, quote, to) && convert_inner(ctx, quote, to) &&
	       convert_outer(ctx, pkt, to) && convert_ports(ctx, pkt, quote) &&
	       converted_put(ctx, pkt, quote, to);
}

/* Makes the error one that the sender of the quoted packet understands. False: it cannot be, for pkt->reason. */
static __always_inline bool error_translate(struct xdp_md *ctx, struct packet *pkt)
{
	return pkt->is_v6 == addr_is_v4(&pkt->other.src) ? error_cross(ctx, pkt) :
							   error_readdress(ctx, pkt);
}

#endif
