/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the stages know of the packet in hand. */
#ifndef TINYLB_PACKET_H
#define TINYLB_PACKET_H

#include "types.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

/* The best flow to give up that a search has seen: of those in the last phase the oldest. */
struct victim {
	__u64 last_seen;
	__u32 slot;
	struct flow_life life; /* as it was; phase 0: none seen */
};

/* A search for a free source port; see snat.h. */
struct port_search {
	__u64 now;
	__u32 place; /* of the answer, once it is taken */
	__u32 snat_first;
	__u32 ports;
	__u32 port_first;
	__u32 pool; /* addresses x ports */
	__u32 start;
	__u32 at;
	struct victim victim;
	__u32 victim_at;
	__u32 enough; /* enum flow_phase: such a victim ends the search */
};

/* A search for a backend that is not full; see select.h. */
struct backend_search {
	__u32 service;
	__u32 table_offset;
	__u32 table_size;
	__u32 start; /* the entry that it begins with */
	__u32 full; /* the last full backend that was met; 0: none */
};

struct packet {
	/* not cleared for each packet, as is what follows */
	struct affinity affinity; /* of its client; see affinity.h */
	struct backend_search backends;
	/* of the flow that was found or opened */
	struct flow flow; /* as it was */
	struct tuple other; /* of its other direction */
	struct next_hop hop; /* that it leaves by */
	struct port_search search;
	struct tuple tuple; /* as it came; the first that is cleared */
	__u64 hash; /* of the tuple; see hash.h */
	__u32 lock_seen; /* before it was looked for; see lock.h */
	__u32 slot;
	__u32 place; /* of a new flow's answers */
	__u32 l3_offset; /* from the frame's first byte, as is l4_offset; see packet_at() */
	__u32 l4_offset;
	__u32 l4_length; /* as IP says, never past the frame's end */
	__u32 ip_length; /* of the IP packet, as its header says */
	__u32 length; /* of the whole frame, all its buffers included */
	__u32 told_mtu; /* how long its sender's packets may be, where it is too long */
	__u32 cut_to; /* how long its pieces may be; 0: it stays in one */
	struct link_tags tags; /* as it came */
	__u32 fragment_id; /* host byte order */
	__u32 fragment_offset; /* bytes */
	__u32 fragment_header; /* where IPv6's is in the frame */
	__u32 payload_offset; /* where in the frame that begins which is fragmented */
	__u64 datagram_hash;
	struct frame_ref held; /* that waited for it */
	__u32 datagram_id; /* that its fragments leave with */
	__u32 service;
	__u32 backend;
	enum reason reason;
	enum reason flaw; /* what is wrong with it, should it turn out to be for a service */
	enum direction direction;
	__u16 vlan; /* that it came in */
	__u8 tcp_flags;
	bool is_v6;
	bool is_arp;
	bool has_fragment_header;
	bool is_fragment; /* not so a whole packet in an IPv6 fragment header (RFC 6946) */
	bool more_fragments;
	bool settles; /* its datagram's other fragments are to be told what becomes of it */
	bool is_stranger; /* neither of its addresses is of interest, but what it quotes may be */
	bool has_ports; /* of a quoted packet: they could be read */
	bool is_error; /* of ICMP, about a packet of the flow */
	bool known; /* it is of a flow that was there */
	bool source_nat; /* a new flow's source is rewritten, too */
	bool is_parcel; /* see frames.h */
	bool is_completed; /* its checksum is not partial, whatever it looks like */
	enum forward_mode forward; /* of a new flow */
};

static __always_inline void packet_clear(struct packet *pkt)
{
	__builtin_memset(&pkt->tuple, 0, sizeof(*pkt) - offsetof(struct packet, tuple));
}

/* data plane only. The stack, 512 bytes for all functions together, is too small for them. */
enum packet_index {
	PACKET_IN_HAND,
	PACKET_QUOTED, /* by an ICMP error in hand */
	PACKETS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct packet);
	__uint(max_entries, PACKETS);
} packets SEC(".maps");

static __always_inline struct packet *quoted_packet(void)
{
	__u32 index = PACKET_QUOTED;

	return bpf_map_lookup_elem(&packets, &index);
}

/* Headers are read up to here; a power of two, less one. */
#define PACKET_OFFSET_MAX 0x3fff

/*
 * `size` bytes of the packet, or NULL where they are not there, or not in its
 * first buffer. Stages keep offsets, not pointers: so each can be a function
 * that is verified by itself.
 */
static __always_inline void *packet_at(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *at = (void *)(long)ctx->data + (offset & PACKET_OFFSET_MAX);

	if (offset > PACKET_OFFSET_MAX || at + size > (void *)(long)ctx->data_end)
		at = NULL;
	asm volatile("" : "+r"(at)); /* or clang asks the caller's question in another way */
	return at;
}

/* A number below a power of two, so that Linux 6.1's verifier sees it, too; clang would leave out what it knows. */
static __always_inline __u32 bounded(__u32 number, __u32 power_of_two)
{
	asm volatile("" : "+r"(number));
	return number & (power_of_two - 1);
}

enum tcp_flags {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16,
};

/* What is wrong with a packet; of several things the first to be read counts. */
static __always_inline void note(struct packet *pkt, enum reason flaw)
{
	if (!pkt->flaw)
		pkt->flaw = flaw;
}

static __always_inline enum verdict leave(struct packet *pkt, enum verdict verdict,
					  enum reason reason)
{
	pkt->reason = reason;
	return verdict;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline bool tuple_equal(const struct tuple *a, const struct tuple *b)
{
	return addr_equal(&a->src, &b->src) && addr_equal(&a->dst, &b->dst) &&
	       a->sport == b->sport && a->dport == b->dport && a->protocol == b->protocol;
}

/* For Bloom filters: multiplied by an odd number, its upper bits are a hash of the address. */
static __always_inline __u32 addr_mix(const struct addr *a)
{
	return a->word[0] ^ a->word[1] * 3 ^ a->word[2] * 5 ^ a->word[3];
}

static __always_inline struct addr addr_from_v4(__be32 v4)
{
	return (struct addr){ .word = { 0, 0, bpf_htonl(0xffff), v4 } };
}

/* Such an address has no business in an IPv6 header (RFC 4291, 2.5.5.2), and it stands for IPv4 here. */
static __always_inline bool addr_is_v4(const struct addr *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

/* Its first bits, of 128, with zeros behind them. */
static __always_inline struct addr addr_first_bits(const struct addr *a, __u32 bits)
{
	struct addr first;
	__u32 left;

	for (int i = 0; i < 4; i++) {
		left = bits < 32 ? bits : 32;
		first.word[i] = a->word[i] & ~bpf_htonl(0xffffffffULL >> left);
		bits -= left;
	}
	return first;
}

static __always_inline bool addr_is_unspecified(const struct addr *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

static __always_inline struct addr addr_from_v6(const struct in6_addr *v6)
{
	return (struct addr){ .word = { v6->in6_u.u6_addr32[0], v6->in6_u.u6_addr32[1],
					v6->in6_u.u6_addr32[2], v6->in6_u.u6_addr32[3] } };
}

static __always_inline struct addr addr_join(const struct addr_prefix *prefix, __u32 last)
{
	return (struct addr){
		.word = { prefix->word[0], prefix->word[1], prefix->word[2], last },
	};
}

static __always_inline bool prefix_equal(const struct addr_prefix *prefix, const struct addr *a)
{
	return prefix->word[0] == a->word[0] && prefix->word[1] == a->word[1] &&
	       prefix->word[2] == a->word[2];
}

static __always_inline void prefix_take(struct addr_prefix *prefix, const struct addr *a)
{
	prefix->word[0] = a->word[0];
	prefix->word[1] = a->word[1];
	prefix->word[2] = a->word[2];
}

/* In as few steps as there can be: clang copies bytes one by one where it sees no alignment. */
static __always_inline void mac_copy(void *to, const void *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline bool mac_is_zero(const void *mac)
{
	return !(*(const __u32 *)mac | *(const __u16 *)(mac + 4));
}

#endif
