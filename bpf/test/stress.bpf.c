// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For tests only: has the data plane meet itself on several CPUs. A test-run on each of them, told to
 * repeat, makes packets of clients and answers of backends at random, gives each to
 * the data plane, and judges what becomes of it by that packet alone: addresses say of themselves
 * which number they have, and a client always has the same backend. So no CPU has to know what
 * the others do. The loader has `measured` be the data plane's program.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define KINDS 16
/* Beside a packet's TCP flags, in the low byte. */
#define KIND_ANSWER 0x100
#define KIND_UDP 0x200

struct traffic {
	__u32 clients;
	__u32 vips;
	__u16 kinds[KINDS]; /* of packets, each as likely as the others */
	__u8 is_v6;
	__u8 together; /* every two packets are of the same client, likely on two CPUs */
	__u8 tunnels;
	__u8 pad;
};

volatile const struct traffic
	plan SEC(".rodata.plan") = {}; /* the data plane has a section .rodata */

enum result {
	RESULT_MADE,
	RESULT_SENT,
	RESULT_TO_BACKEND,
	RESULT_TO_CLIENT,
	RESULT_DROP,
	RESULT_PASS,
	/* what must not be */
	RESULT_OTHER_VERDICT,
	RESULT_NO_BACKEND, /* sent to what is none */
	RESULT_OTHER_BACKEND, /* than the flow had before */
	RESULT_WRONG_SOURCE, /* neither the client nor one that stands for it */
	RESULT_NO_CLIENT, /* answer sent to what is none, or from no VIP */
	RESULT_OTHER_CLIENT, /* which has another backend, or another address */
	RESULT_OTHER_MAC, /* than the client's */
	RESULT_COUNT,
};

#define RESULT_SLOTS 16

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RESULT_SLOTS);
	__type(key, enum result);
	__type(value, __u64);
} results SEC(".maps");

/* The packet in hand. */
struct shot {
	__u16 kind;
	__u16 port; /* of an answer: where it goes */
	__u32 verdict;
	__u32 client;
	__u32 vip;
	__u32 backend;
	__u32 to[4]; /* of an answer */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shot);
} shots SEC(".maps");

/* What backends have got of late, to be answered. */
#define ANSWERABLE 64
struct answerable {
	__u32 to[4];
	__u32 backend;
	__be16 port;
	__u16 is_udp;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ANSWERABLE);
	__type(key, __u32);
	__type(value, struct answerable);
} all_answerable SEC(".maps");

/* By client, VIP and protocol: its backend, plus one. Twice plan.clients times plan.vips. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} homes SEC(".maps");

__u32 turn; /* where packets are of two CPUs together */

/* Weak, or clang would learn from this one what the program in its place does. */
__weak int measured(struct xdp_md *ctx)
{
	return ctx ? XDP_ABORTED : XDP_DROP;
}

static __always_inline void count(enum result result)
{
	__u64 *n = bpf_map_lookup_elem(&results, &result);

	if (n)
		*n += 1;
}

enum who {
	CLIENT,
	VIP,
	BACKEND,
	SOURCE,
};

#define NOBODY 0xffffffff
#define NUMBERS 0x1ffff /* of addresses */
#define CLIENT_PORTS 17 /* the bits of a client's number from there on are in its port */
#define CLIENT_PORT 10000
#define SERVICE_PORT 80

static __always_inline __u32 v4_base(enum who who)
{
	return who == CLIENT  ? 0xc6120000 :
	       who == VIP     ? 0xcb007105 :
	       who == BACKEND ? 0x0a010000 :
				0x0a020000;
}

static __always_inline __u32 v6_second(enum who who, __u32 n)
{
	return (__u32)who << 28 | (n * 0x01000193 & 0x0fffffff);
}

/* The address with a number. */
static __always_inline void address_put(__u32 *at, enum who who, __u32 n)
{
	if (!plan.is_v6) {
		at[0] = bpf_htonl(v4_base(who) + n);
		return;
	}
	at[0] = bpf_htonl(0x20010db8);
	at[1] = bpf_htonl(v6_second(who, n));
	at[2] = bpf_htonl(~n);
	at[3] = bpf_htonl(n);
}

/* The number of an address; NOBODY: it is none of these. */
static __always_inline __u32 address_number(const __u32 *at, enum who who)
{
	__u32 n = plan.is_v6 ? bpf_ntohl(at[3]) : bpf_ntohl(at[0]) - v4_base(who);

	if (n > NUMBERS)
		return NOBODY;
	if (plan.is_v6 && (at[0] != bpf_htonl(0x20010db8) ||
			   at[1] != bpf_htonl(v6_second(who, n)) || at[2] != bpf_htonl(~n)))
		return NOBODY;
	return n;
}

static __always_inline void words_copy(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	if (plan.is_v6) {
		to[1] = from[1];
		to[2] = from[2];
		to[3] = from[3];
	}
}

static __always_inline bool words_equal(const __u32 *a, const __u32 *b)
{
	return a[0] == b[0] && (!plan.is_v6 || (a[1] == b[1] && a[2] == b[2] && a[3] == b[3]));
}

#define ETHERNET 14
#define L4 20 /* bytes of TCP, or of UDP with its payload */
#define SRC_AT (ETHERNET + (plan.is_v6 ? 8 : 12))
#define DST_AT (ETHERNET + (plan.is_v6 ? 24 : 16))
#define L4_AT (ETHERNET + (plan.is_v6 ? 40 : 20))
#define FRAME_SIZE (L4_AT + L4)

/* The last one may have been made longer. */
static __always_inline void *frame_of(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	long size = FRAME_SIZE;

	if (end - data != size) {
		if (bpf_xdp_adjust_head(ctx, end - data - size))
			return NULL;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	return data + size <= end ? data : NULL;
}

static __always_inline void ip_put(void *frame, bool udp)
{
	__u8 *ip = frame + ETHERNET;
	__u8 protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;

	*(__be16 *)(frame + ETHERNET - 2) = plan.is_v6 ? bpf_htons(0x86dd) : bpf_htons(0x0800);
	if (plan.is_v6) {
		*(__be32 *)ip = bpf_htonl(0x60000000);
		*(__be16 *)(ip + 4) = bpf_htons(L4);
		ip[6] = protocol;
		ip[7] = 64;
		return;
	}
	*(__be16 *)ip = bpf_htons(0x4500);
	*(__be16 *)(ip + 2) = bpf_htons(20 + L4);
	*(__be32 *)(ip + 4) = bpf_htonl(0x00004000);
	ip[8] = 64;
	ip[9] = protocol;
	*(__be16 *)(ip + 10) = bpf_htons(0x1234);
}

static __always_inline void l4_put(void *frame, __be16 sport, __be16 dport, __u16 kind)
{
	__be16 *l4 = frame + L4_AT;

	l4[0] = sport;
	l4[1] = dport;
	l4[2] = l4[4] = l4[5] = 0;
	l4[3] = bpf_htons(0x1234);
	if (kind & KIND_UDP)
		l4[2] = bpf_htons(L4);
	l4[6] = bpf_htons(0x5000 | (kind & 0xff));
	l4[7] = 0xffff;
	l4[8] = bpf_htons(0x1234);
	l4[9] = 0;
}

static __always_inline void macs_put(void *frame, __u32 from)
{
	*(__be32 *)frame = bpf_htonl(0x02000000);
	*(__be32 *)(frame + 4) = bpf_htonl(0x00050201);
	*(__be32 *)(frame + 8) = bpf_htonl(from);
}

static __always_inline __be16 client_port(__u32 client)
{
	return bpf_htons(CLIENT_PORT + (client >> CLIENT_PORTS));
}

static __always_inline void request_put(void *frame, struct shot *shot)
{
	__u32 random = bpf_get_prandom_u32();

	shot->client = (plan.together ? __sync_fetch_and_add(&turn, 1) / 2 : random) % plan.clients;
	shot->vip = (random >> 24) % plan.vips;
	macs_put(frame, shot->client);
	ip_put(frame, shot->kind & KIND_UDP);
	address_put(frame + SRC_AT, CLIENT, shot->client & NUMBERS);
	address_put(frame + DST_AT, VIP, shot->vip);
	l4_put(frame, client_port(shot->client), bpf_htons(SERVICE_PORT), shot->kind);
}

static __always_inline bool answer_put(void *frame, struct shot *shot)
{
	__u32 at = bpf_get_prandom_u32() % ANSWERABLE;
	struct answerable *what = bpf_map_lookup_elem(&all_answerable, &at);

	if (!what || !what->port)
		return false;
	if (what->is_udp)
		shot->kind |= KIND_UDP;
	else
		shot->kind &= ~KIND_UDP;
	shot->backend = what->backend;
	shot->port = what->port;
	words_copy(shot->to, what->to);
	macs_put(frame, 0xffffffff);
	ip_put(frame, shot->kind & KIND_UDP);
	address_put(frame + SRC_AT, BACKEND, shot->backend);
	words_copy(frame + DST_AT, shot->to);
	l4_put(frame, bpf_htons(SERVICE_PORT), shot->port, shot->kind);
	return true;
}

/* A packet of one of the kinds. */
static __always_inline bool shot_put(void *frame)
{
	__u32 zero = 0, kind = bpf_get_prandom_u32() % KINDS;
	struct shot *shot = bpf_map_lookup_elem(&shots, &zero);

	if (!shot)
		return false;
	shot->kind = plan.kinds[kind];
	if (shot->kind & KIND_ANSWER && answer_put(frame, shot))
		return true;
	shot->kind &= ~KIND_ANSWER;
	request_put(frame, shot);
	return true;
}

/* Whether a client's backend has always been this one. TCP has another than UDP. */
static __always_inline bool is_at_home(const struct shot *shot, __u32 client, __u32 vip,
				       __u32 backend)
{
	__u32 key = (2 * vip + !!(shot->kind & KIND_UDP)) * plan.clients + client;
	__u32 *home = bpf_map_lookup_elem(&homes, &key), was;

	if (!home)
		return false;
	was = __sync_val_compare_and_swap(home, 0, backend + 1);
	return !was || was == backend + 1;
}

static __always_inline enum result judge_request(void *frame, struct shot *shot)
{
	__u32 backend = address_number(frame + DST_AT, BACKEND),
	      at = bpf_get_prandom_u32() % ANSWERABLE;
	struct answerable *what = bpf_map_lookup_elem(&all_answerable, &at);
	__be16 *ports = frame + L4_AT;
	bool stands;

	if (backend == NOBODY)
		return RESULT_NO_BACKEND;
	if (!is_at_home(shot, shot->client, shot->vip, backend))
		return RESULT_OTHER_BACKEND;
	if (plan.tunnels)
		return RESULT_TO_BACKEND;
	stands = address_number(frame + SRC_AT, SOURCE) == 0;
	if (!stands && (address_number(frame + SRC_AT, CLIENT) != (shot->client & NUMBERS) ||
			ports[0] != client_port(shot->client)))
		return RESULT_WRONG_SOURCE;
	if (!what)
		return RESULT_COUNT;
	words_copy(what->to, frame + SRC_AT);
	what->backend = backend;
	what->port = ports[0];
	what->is_udp = !!(shot->kind & KIND_UDP);
	return RESULT_TO_BACKEND;
}

static __always_inline enum result judge_answer(void *frame, struct shot *shot)
{
	__u32 number = address_number(frame + DST_AT, CLIENT),
	      vip = address_number(frame + SRC_AT, VIP);
	__be16 *ports = frame + L4_AT;
	__u32 client;

	if (number == NOBODY || vip >= plan.vips || ports[0] != bpf_htons(SERVICE_PORT))
		return RESULT_NO_CLIENT;
	client = number | (bpf_ntohs(ports[1]) - CLIENT_PORT) << CLIENT_PORTS;
	if (client >= plan.clients)
		return RESULT_NO_CLIENT;
	if (address_number(shot->to, SOURCE) != 0 &&
	    (!words_equal(frame + DST_AT, shot->to) || ports[1] != shot->port))
		return RESULT_OTHER_CLIENT;
	if (!is_at_home(shot, client, vip, shot->backend))
		return RESULT_OTHER_CLIENT;
	if (*(__be16 *)frame != bpf_htons(0x0201) || *(__be32 *)(frame + 2) != bpf_htonl(client))
		return RESULT_OTHER_MAC;
	return RESULT_TO_CLIENT;
}

/* What the last packet has become, if there was one and it left. */
static __always_inline void judge_last(struct xdp_md *ctx)
{
	void *frame = (void *)(long)ctx->data;
	__u32 zero = 0;
	struct shot *shot = bpf_map_lookup_elem(&shots, &zero);

	if (!shot || frame + FRAME_SIZE > (void *)(long)ctx->data_end)
		return;
	if (shot->verdict != XDP_TX || !*(__be16 *)(frame + ETHERNET - 2))
		return;
	count(shot->kind & KIND_ANSWER ? judge_answer(frame, shot) : judge_request(frame, shot));
}

static __always_inline void settle(__u32 verdict)
{
	__u32 zero = 0;
	struct shot *shot = bpf_map_lookup_elem(&shots, &zero);

	if (shot)
		shot->verdict = verdict;
	count(verdict == XDP_TX	  ? RESULT_SENT :
	      verdict == XDP_DROP ? RESULT_DROP :
	      verdict == XDP_PASS ? RESULT_PASS :
				    RESULT_OTHER_VERDICT);
}

/*
 * The program in the place of `measured` is jumped into and back from, for it nests calls, and takes of the stack, as
 * much as may be. It leaves us no register and none of our stack, and so no context: the next round judges its packet.
 */
SEC("xdp.frags")
int stress(struct xdp_md *ctx)
{
	__u32 verdict;
	void *frame;

	judge_last(ctx);
	frame = frame_of(ctx);
	if (!frame || !shot_put(frame))
		return XDP_ABORTED;
	count(RESULT_MADE);
	verdict = measured(ctx);
	asm volatile("" : "+r"(verdict) : : "r6", "r7", "r8", "r9");
	settle(verdict);
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
