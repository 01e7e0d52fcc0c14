/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames that are kept until they are sent. XDP sends one frame for one that came: where more have to go, it stores
 * them here, completely rewritten, and passes the frame in hand as a parcel, which tells the program in emit.bpf.c
 * where they are. Whoever changes a slot's turn by compare-and-swap owns it; an even turn is nobody's. So what
 * is known by an older turn is never sent, and a slot whose parcel got lost is taken over when its time is up.
 */
#ifndef TINYLB_FRAMES_H
#define TINYLB_FRAMES_H

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "types.h"

/* The largest frame that is kept, and how many bytes of headers before its data. */
#define FRAME_MAX 9216
#define FRAME_OFFSET_MAX 1023

/* Enough for Ethernet, two VLAN tags, an IPv6 header and GUE's. */
#define FRAME_HEAD_MAX 96

/* Whose a slot is; eight bytes, so that it changes at once. */
struct frame_life {
	__u32 turn; /* odd: taken */
	__u32 deadline; /* in ticks: then it is anybody's */
} __attribute__((aligned(8)));
ASSERT_SIZE(struct frame_life, 8);

union frame_life_word {
	struct frame_life life;
	__u64 word;
};

/* The clock in clock.h, in units of 2^20 ns; it wraps after seven weeks. */
#define FRAME_TICK_SHIFT 20

/* A frame is `head`, and then `length` bytes of what is stored, from `offset` on. */
struct frame_slot {
	struct frame_life life;
	struct frame_ref next; /* goes behind it */
	__u32 interface; /* to leave by; 0: it goes up to the host that it came to */
	__u16 head_length;
	__u16 offset;
	__u16 length;
	__u8 is_held; /* it counts as held */
	__u8 pad;
	__u32 bytes; /* which of `stored_frames`: its own, or one's behind it in the chain */
	__u8 head[FRAME_HEAD_MAX];
};
ASSERT_SIZE(struct frame_slot, 128);

struct frame_bytes {
	__u8 bytes[FRAME_MAX + FRAME_OFFSET_MAX + 1];
};
ASSERT_SIZE(struct frame_bytes, 10240);

/* data plane only: fragments.held, and FRAMES_IN_TRANSIT. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct frame_slot);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} frame_slots SEC(".maps");

/* data plane only: the same number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct frame_bytes);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} stored_frames SEC(".maps");

/* Frames in one parcel: as many fragments as a datagram can have. */
#define PARCEL_FRAMES 8192

/*
 * What a frame that XDP passes to emit.bpf.c becomes: an EtherType of nobody's (IEEE 802, 9.2.4, local experimental)
 * and this. It says nothing that could do harm if an outsider sent it.
 */
#define ETH_P_PARCEL 0x88b5
#define PARCEL_MAGIC bpf_htonl(0x746e796c)
struct parcel {
	__be32 magic;
	struct frame_ref first;
};
ASSERT_SIZE(struct parcel, 12);

/* A size is from 1 to `most`; said so that Linux 6.1's verifier sees it, too. */
static __always_inline bool is_size(__u32 *size, __u32 most)
{
	__u32 last = *size - 1;

	asm volatile("" : "+r"(last));
	if (last >= most)
		return false;
	*size = last + 1;
	return true;
}

static __always_inline struct frame_slot *frame_slot(__u32 index)
{
	return bpf_map_lookup_elem(&frame_slots, &index);
}

static __always_inline struct frame_bytes *frame_bytes(__u32 index)
{
	return bpf_map_lookup_elem(&stored_frames, &index);
}

static __always_inline struct frame_life frame_life(const struct frame_slot *slot)
{
	union frame_life_word now = { .word = *(const volatile __u64 *)&slot->life };

	return now.life;
}

/* The slot's owner from now on, or its owner no more, if nobody else has become that. */
static __always_inline bool frame_life_change(struct frame_slot *slot, struct frame_life was,
					      struct frame_life is)
{
	union frame_life_word from = { .life = was }, to = { .life = is };

	return __sync_val_compare_and_swap((__u64 *)&slot->life, from.word, to.word) == from.word;
}

/* The same for who knows the slot by an earlier turn. */
static __always_inline bool frame_claim(struct frame_slot *slot, __u32 turn,
					struct frame_life *life)
{
	struct frame_life was = frame_life(slot);

	*life = was;
	life->turn += 2;
	return was.turn == turn && frame_life_change(slot, was, *life);
}

/* False: it was not ours any more. */
static __always_inline bool frame_free(struct frame_slot *slot, struct frame_life life)
{
	return frame_life_change(slot, life, (struct frame_life){ .turn = life.turn + 1 });
}

static __always_inline bool frame_is_taken(__u32 turn)
{
	return turn & 1;
}

#endif
