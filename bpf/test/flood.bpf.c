// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For benchmarks only: a flood of UDP packets through a network, what forwards
 * them with the least effort, and who counts those that arrive.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_SIZE 64
/* Of UDP over IPv4 without options, in 16-bit words. */
#define SOURCE_PORT 17
#define PAYLOAD 21

union frame {
	__u64 words[FRAME_SIZE / 8];
	__u16 halves[FRAME_SIZE / 2];
};

/* Every packet, but for the source port, which is a flow's; that and the payload's first word are zero. */
volatile const union frame template = {};
volatile const __u32 first_port = 1;
volatile const __u32 flows = 1;

/* Where `generate` sends to, and where `redirect` does. */
volatile const __u32 sending_interface = 1;
volatile const __u32 redirect_interface = 1;

/* One CPU generates. */
__u32 next_flow;
/* The clock goes from the first packet to the last: starting a test-run waits for much longer than packets take. */
__u32 packets = 1;
__u32 made;
__u64 began; /* ns */
__u64 ended;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

/*
 * For a test-run with live frames, which come again as they were when they were
 * dropped: so all of the frame is written. A port and its complement leave the
 * checksum as it is.
 */
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	union frame *frame = (void *)(long)ctx->data;
	__u16 port = bpf_htons(first_port + next_flow);

	if ((void *)(frame + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	if (++made == 1)
		began = bpf_ktime_get_ns();
	if (made == packets)
		ended = bpf_ktime_get_ns();
	next_flow = next_flow + 1 < flows ? next_flow + 1 : 0;
	for (int i = 0; i < FRAME_SIZE / 8; i++)
		frame->words[i] = template.words[i];
	frame->halves[SOURCE_PORT] = port;
	frame->halves[PAYLOAD] = ~port;
	return bpf_redirect(sending_interface, 0);
}

/* The limit of what forwards: it looks at nothing. */
SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	(void)ctx;
	return bpf_redirect(redirect_interface, 0);
}

/* Ends the way of each IPv4 packet. */
SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 zero = 0;
	__u64 *seen;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	seen = bpf_map_lookup_elem(&arrived, &zero);
	if (seen)
		++*seen;
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
