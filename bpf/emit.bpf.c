// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sends what XDP cannot: several frames for one that came. It runs at the ingress of the same interfaces, behind
 * XDP, and decides nothing: a parcel says which stored frames go, and each of them, where. ARCHITECTURE.md,
 * "A packet's way", says why.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "frames.h"

/* Frames are written to `emitted` instead of being sent. */
volatile const __u8 test_emit = 0;

/* `simulate` and tests only: what would have been sent, in order. */
struct emitted_frame {
	__u32 interface;
	__u32 length;
	__u8 bytes[FRAME_MAX + FRAME_HEAD_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct emitted_frame);
	__uint(max_entries, 1);
} emitted SEC(".maps");

struct emit_walk {
	struct __sk_buff *skb;
	struct frame_ref next;
	__u32 emitted;
};

static __always_inline void emit_note(struct __sk_buff *skb, __u32 n, __u32 interface)
{
	struct emitted_frame *frame = bpf_map_lookup_elem(&emitted, &n);
	__u32 length = skb->len;

	if (!frame || !is_size(&length, sizeof(frame->bytes)))
		return;
	frame->interface = interface;
	frame->length = length;
	bpf_skb_load_bytes(skb, 0, frame->bytes, length);
}

static __always_inline void emit_send(struct __sk_buff *skb, __u32 n, __u32 interface)
{
	if (test_emit)
		emit_note(skb, n, interface);
	else if (interface)
		bpf_clone_redirect(skb, interface, 0);
	else
		bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
}

/* So much at once that the verifier sees that it is there, wherever it begins. */
#define COPY_CHUNK (FRAME_OFFSET_MAX + 1)

struct copy_walk {
	__u32 from;
	__u32 to; /* in the packet */
	__u32 left;
};

static __always_inline bool emit_chunk(struct __sk_buff *skb, struct frame_bytes *frame,
				       struct copy_walk *walk)
{
	__u32 from = walk->from, size = walk->left < COPY_CHUNK ? walk->left : COPY_CHUNK;

	asm volatile("" : "+r"(from)); /* so that clang keeps the next line */
	if (from > FRAME_MAX || !is_size(&size, COPY_CHUNK) ||
	    bpf_skb_store_bytes(skb, walk->to, frame->bytes + from, size, BPF_F_RECOMPUTE_CSUM))
		return false;
	walk->from += size;
	walk->to += size;
	walk->left -= size;
	return true;
}

/* Puts stored bytes into the packet. */
static __always_inline bool emit_copy(struct __sk_buff *skb, const struct frame_slot *slot)
{
	struct copy_walk walk = {
		.from = slot->offset,
		.to = slot->head_length,
		.left = slot->length,
	};
	struct frame_bytes *frame = frame_bytes(slot->bytes);

	if (!frame)
		return false;
#pragma unroll
	for (int i = 0; i < FRAME_MAX / COPY_CHUNK; i++)
		if (walk.left && !emit_chunk(skb, frame, &walk))
			return false;
	return !walk.left;
}

/* Makes the packet the stored frame. */
static __always_inline bool emit_fill(struct __sk_buff *skb, struct frame_slot *slot)
{
	__u32 head = slot->head_length, length = slot->length;

	return is_size(&head, FRAME_HEAD_MAX) && length &&
	       !bpf_skb_change_tail(skb, head + length, 0) &&
	       !bpf_skb_store_bytes(skb, 0, slot->head, head, BPF_F_RECOMPUTE_CSUM) &&
	       emit_copy(skb, slot);
}

/* One frame. The slot is free before the frame is sent, so what is sent was ours all the time. */
static long emit_step(__u32 i, struct emit_walk *walk)
{
	__u32 index = walk->next.index, turn = walk->next.turn, interface;
	struct frame_slot *slot = frame_slot(index);
	struct frame_life life;
	bool filled;

	if (!slot || !frame_is_taken(turn) || !frame_claim(slot, turn, &life))
		return 1;
	walk->next = slot->next;
	interface = slot->interface;
	filled = emit_fill(walk->skb, slot);
	if (frame_free(slot, life) && filled)
		emit_send(walk->skb, walk->emitted++, interface);
	return 0;
}

static __always_inline bool parcel_at(struct __sk_buff *skb, __u32 offset, struct parcel *parcel)
{
	return !bpf_skb_load_bytes(skb, offset, parcel, sizeof(*parcel)) &&
	       parcel->magic == PARCEL_MAGIC;
}

/* Behind generic XDP the packet may begin with its payload: the kernel takes the Ethernet header's length for 0 there. */
static __always_inline bool parcel_read(struct __sk_buff *skb, struct parcel *parcel)
{
	return parcel_at(skb, ETH_HLEN, parcel) ||
	       (parcel_at(skb, 0, parcel) && !bpf_skb_change_head(skb, ETH_HLEN, 0));
}

SEC("tc")
int tinylb_emit(struct __sk_buff *skb)
{
	struct emit_walk walk = { .skb = skb };
	struct parcel parcel;

	if (skb->protocol != bpf_htons(ETH_P_PARCEL) || !parcel_read(skb, &parcel))
		return TC_ACT_UNSPEC;
	walk.next = parcel.first;
	bpf_loop(PARCEL_FRAMES, emit_step, &walk, 0);
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
