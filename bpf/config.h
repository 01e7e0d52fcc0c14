/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Knobs that are fixed while a program is loaded; each interface has its own program. */
#ifndef TINYLB_CONFIG_H
#define TINYLB_CONFIG_H

#include "types.h"

enum checksum_handling {
	CHECKSUM_FULL, /* hardware: every checksum on the wire is complete */
	CHECKSUM_COMPLETE, /* native on veth, tun, virtio: complete partial ones */
	CHECKSUM_KEEP_PARTIAL, /* generic: the kernel completes partial ones later */
};

/* How partial checksums (CHECKSUM_PARTIAL) are treated: enum checksum_handling. */
volatile const enum checksum_handling checksum_mode = CHECKSUM_FULL;

/* The interface's MAC: frames to another one pass. Zero: frames to any MAC count. */
volatile const __u8 interface_mac[6] __attribute__((aligned(4))) = {};

/* What neighbours are told that has a VIP; zero: those that ask everybody are told nothing. */
volatile const __u8 neighbour_mac[6] __attribute__((aligned(4))) = {};

/*
 * Send back by redirecting to the same interface: XDP_TX on a veth wakes a peer
 * only when that has an XDP program (veth_xdp_flush), a redirect also when it has GRO on.
 */
volatile const __u8 tx_by_redirect = 0;

/* Entries of `buckets` for `flows`, and behind them for `answer_slots`. */
volatile const __u32 flow_bucket_count = 1;
volatile const __u32 answer_bucket_count = 1;

/* Entries of `client_buckets` and of `affinity_buckets`. */
volatile const __u32 client_bucket_count = 1;
volatile const __u32 affinity_bucket_count = 1;

/* Entries of `frame_slots`. */
volatile const __u32 frame_count = 1;

/* What `all_hash_keys` holds. */
volatile const struct hash_keys flow_hash_keys = {};

/* No processor here sees stores in another order than they were made in, as on x86-64. */
volatile const __u8 stores_are_ordered = 0;

/* Time and randomness come from `test_inputs` instead of the kernel. */
volatile const __u8 test_clock = 0;

/* Write what became of each packet to `decisions`. */
volatile const __u8 record_decisions = 0;

#endif
