// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For tests only. The kernel's test-run zeroes the bytes before a frame; drivers
 * leave there what earlier packets left. A program that encapsulates and forgets
 * to write a byte is found out only over dirty headroom.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* What a program can grow into: XDP_PACKET_HEADROOM without struct xdp_frame. */
#define HEADROOM 192

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} behind SEC(".maps");

/* Fills the headroom with ones and goes on to the program in `behind`. */
SEC("xdp.frags")
int poison(struct xdp_md *ctx)
{
	void *data, *end;

	if (bpf_xdp_adjust_head(ctx, -HEADROOM))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + HEADROOM > end)
		return XDP_ABORTED;
	__builtin_memset(data, 0xff, HEADROOM);
	if (bpf_xdp_adjust_head(ctx, HEADROOM))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &behind, 0);
	return XDP_ABORTED;
}

/* Shows the headroom as part of the frame, so that a test can see that it is dirty. */
SEC("xdp.frags")
int uncover(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -HEADROOM) ? XDP_ABORTED : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
