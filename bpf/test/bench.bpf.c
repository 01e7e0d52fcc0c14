// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For benchmarks only. The kernel's test-run, told to repeat, gives a program its
 * own output again. `fresh` comes before the program that is measured and makes
 * each round's packet anew: a template with the addresses and ports of the next
 * flow in it. It costs every program that is measured behind it the same.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_MAX 80
#define ENDS_MAX 40

/* Of every packet; at most FRAME_MAX, a multiple of 16. */
volatile const __u32 frame_size = 64;
/* Where source and destination begin in it, and how long they and the ports are together. */
volatile const __u32 ends_offset = 26;
volatile const __u32 ends_size = 12;
/* Entries in `ends`. */
volatile const __u32 flows = 1;

struct frame {
	__u64 words[FRAME_MAX / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame);
} templates SEC(".maps");

/* One after the other in the order of use, so that the processor fetches them ahead. */
struct ends {
	__u32 words[ENDS_MAX / 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ends);
} all_ends SEC(".maps");

/* A run's clock begins with its first packet and ends when the last one is made: what starting a test-run costs is left out. */
struct run {
	__u32 next; /* in `ends` */
	__u32 made;
	__u32 packets;
	__u32 pad;
	__u64 began; /* ns */
	__u64 ended;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct run);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} behind SEC(".maps");

/* The last round may have made it longer or shorter. */
static __always_inline int original_size(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	long longer = end - data - (long)frame_size;

	return longer ? bpf_xdp_adjust_head(ctx, longer) : 0;
}

static __always_inline struct ends *next_ends(void)
{
	__u32 zero = 0, now;
	struct run *run = bpf_map_lookup_elem(&runs, &zero);

	if (!run)
		return NULL;
	now = run->next;
	run->next = now + 1 < flows ? now + 1 : 0;
	run->made++;
	if (run->made == 1)
		run->began = bpf_ktime_get_ns();
	if (run->made == run->packets)
		run->ended = bpf_ktime_get_ns();
	return bpf_map_lookup_elem(&all_ends, &now);
}

SEC("xdp.frags")
int fresh(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct frame *template = bpf_map_lookup_elem(&templates, &zero);
	struct ends *ends = next_ends();
	__u64 *words;
	__u32 *to;

	if (!template || !ends || original_size(ctx))
		return XDP_ABORTED;
	words = (void *)(long)ctx->data;
	if ((void *)words + frame_size > (void *)(long)ctx->data_end || frame_size < 64)
		return XDP_ABORTED;
	for (int i = 0; i < FRAME_MAX / 8; i++)
		if (i < 64 / 8 || frame_size > 64)
			words[i] = template->words[i];
	to = (void *)words + ends_offset;
	for (int i = 0; i < ENDS_MAX / 4; i++)
		if (i * 4 < (int)ends_size)
			to[i] = ends->words[i];
	bpf_tail_call(ctx, &behind, 0);
	return XDP_ABORTED;
}

/* What all is compared with: looks at Ethernet and sends back. */
SEC("xdp.frags")
int empty(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	return eth->h_proto == bpf_htons(ETH_P_ARP) ? XDP_PASS : XDP_TX;
}

/* What encapsulation costs at the least: the same outer header for all, no map. */
SEC("xdp.frags")
int encapsulate(struct xdp_md *ctx)
{
	struct ethhdr *old, *eth;
	struct iphdr *ip;
	__u32 sum = 0;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	old = (void *)eth + sizeof(*ip);
	ip = (void *)(eth + 1);
	if ((void *)(old + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	__builtin_memcpy(eth->h_source, old->h_dest, 6);
	__builtin_memcpy(eth->h_dest, old->h_source, 6);
	eth->h_proto = bpf_htons(ETH_P_IP);
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(frame_size - ETH_HLEN + sizeof(*ip)),
		.ttl = 64,
		.protocol = 4,
		.saddr = bpf_htonl(0x0a000005),
		.daddr = bpf_htonl(0x0a000002),
	};
	for (int i = 0; i < 10; i++)
		sum += ((__u16 *)ip)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~(sum + (sum >> 16));
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
