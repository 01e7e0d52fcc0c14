// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For benchmarks only. The kernel's test-run, told to repeat, gives a program its
 * own output again. The programs here make each round's packet anew, a template
 * with the addresses and ports of the next flow in it, run the program that is
 * measured, and count its verdict. The loader puts that program where `measured` is
 * called, so what a round costs beside it is the same for all.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_SIZE_V4 64
#define FRAME_SIZE_V6 80
#define VERDICTS 8 /* the last one is for what is none */

/* The clock is read every so many packets: what starting a test-run costs is left out, and what interrupts it can be. */
#define STRETCH 500
#define CLOCKS 2048 /* a power of two */

struct run {
	__u8 frame[FRAME_SIZE_V6]; /* the template */
	__u64 verdicts[VERDICTS];
	__u64 made;
	__u64 clock_at; /* so many made */
	__u32 flow; /* of the next packet */
	__u32 flows;
	__u64 clocks[CLOCKS]; /* ns */
};

struct run current;

/*
 * What a flow's packets have from the addresses on to four bytes behind the ports, in whole
 * words. One after the other in the order of use, so that the processor fetches them ahead.
 */
struct ends_v4 {
	__u64 words[2];
};

struct ends_v6 {
	__u64 words[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ends_v4);
} all_ends_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ends_v6);
} all_ends_v6 SEC(".maps");

/* Weak, or clang would learn from this one what the programs in its place do. */
__weak int measured(struct xdp_md *ctx)
{
	return ctx ? XDP_ABORTED : XDP_DROP;
}

/* The last round may have made the frame longer or shorter. */
static __always_inline void *frame_of(struct xdp_md *ctx, long size)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (end - data != size) {
		if (bpf_xdp_adjust_head(ctx, end - data - size))
			return NULL;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	return data + size <= end ? data : NULL;
}

static __always_inline __u32 next_flow(void)
{
	__u32 flow = current.flow;

	current.flow = flow + 1 < current.flows ? flow + 1 : 0;
	if (current.made == current.clock_at) {
		current.clock_at += STRETCH;
		current.clocks[current.made / STRETCH % CLOCKS] = bpf_ktime_get_ns();
	}
	current.made++;
	return flow;
}

static __always_inline int counted(__u32 verdict)
{
	/* unlike a function, what was measured keeps no register; and clang must not check a copy, which the verifier would not see */
	asm volatile("" : "+r"(verdict) : : "r6", "r7", "r8", "r9");
	if (verdict >= VERDICTS)
		verdict = VERDICTS - 1;
	current.verdicts[verdict]++;
	return verdict;
}

static __always_inline void put(void *frame, __u32 at, const void *word)
{
	*(__u64 *)(frame + at) = *(const __u64 *)word;
}

/*
 * No word of these crosses the border of two header fields that a program might
 * read at once: what was stored in two parts is slow to read in one.
 */
SEC("xdp.frags")
int round_v4(struct xdp_md *ctx)
{
	__u32 flow = next_flow();
	struct ends_v4 *ends = bpf_map_lookup_elem(&all_ends_v4, &flow);
	void *frame = frame_of(ctx, FRAME_SIZE_V4);

	if (!ends || !frame)
		return XDP_ABORTED;
	put(frame, 0, current.frame);
	put(frame, 6, current.frame + 6);
	put(frame, 14, current.frame + 14);
	put(frame, 22, current.frame + 22);
	put(frame, 26, &ends->words[0]);
	put(frame, 34, &ends->words[1]);
	put(frame, 42, current.frame + 42);
	put(frame, 50, current.frame + 50);
	return counted(measured(ctx));
}

SEC("xdp.frags")
int round_v6(struct xdp_md *ctx)
{
	__u32 flow = next_flow();
	struct ends_v6 *ends = bpf_map_lookup_elem(&all_ends_v6, &flow);
	void *frame = frame_of(ctx, FRAME_SIZE_V6);

	if (!ends || !frame)
		return XDP_ABORTED;
	put(frame, 0, current.frame);
	put(frame, 6, current.frame + 6);
	put(frame, 14, current.frame + 14);
	for (int i = 0; i < 5; i++)
		put(frame, 22 + 8 * i, &ends->words[i]);
	put(frame, 62, current.frame + 62);
	put(frame, 70, current.frame + 70);
	return counted(measured(ctx));
}

/* Not even a packet made for it: shows what the rounds above cost. */
SEC("xdp.frags")
int bare(struct xdp_md *ctx)
{
	return ctx ? XDP_TX : XDP_ABORTED;
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
		.tot_len = bpf_htons(FRAME_SIZE_V4 - ETH_HLEN + sizeof(*ip)),
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
