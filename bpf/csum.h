/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Internet checksums: RFC 1071, and RFC 1624 for changing them incrementally.
 * Sums are kept as plain integers over 16-bit words as they lie in memory.
 */
#ifndef TINYLB_CSUM_H
#define TINYLB_CSUM_H

#include "maps.h"
#include "packet.h"

static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 csum_addr(const struct addr *a)
{
	return (__u64)a->word[0] + a->word[1] + a->word[2] + a->word[3];
}

static __always_inline __u64 csum_addr_inverse(const struct addr *a)
{
	return (__u64)(__u32)~a->word[0] + (__u32)~a->word[1] + (__u32)~a->word[2] +
	       (__u32)~a->word[3];
}

/* RFC 1624, equation 3; `change` is the sum of ~old and new words. */
static __always_inline __u16 csum_update(__u16 csum, __u64 change)
{
	return ~csum_fold((__u64)(__u16)~csum + change);
}

/* TTL one less, as the header's checksum sees it: in either byte order the word changes by that much. */
#define TTL_CHANGE bpf_htons(0xfeff)

/* The sum over the pseudo header (RFC 9293, 3.1; RFC 768). */
static __always_inline __u16 csum_pseudo(const struct addr *src, const struct addr *dst,
					 __u8 protocol, __u32 length)
{
	/* the ::ffff of v4-mapped addresses adds 0xffff twice: zero in one's complement */
	return csum_fold(csum_addr(src) + csum_addr(dst) + bpf_htons(protocol) +
			 (__u64)bpf_htonl(length));
}

struct csum_walk {
	struct xdp_md *ctx;
	__u32 offset;
	__u32 left;
	__u64 sum;
	bool failed;
};

static long csum_step(__u32 i, struct csum_walk *walk)
{
	struct checksum_buffer *buffer;
	__u32 zero = 0, length = walk->left;

	buffer = bpf_map_lookup_elem(&checksum_buffers, &zero);
	if (!buffer || !length)
		return 1;
	if (length > CHECKSUM_CHUNK)
		length = CHECKSUM_CHUNK;
	asm volatile(
		""
		: "+r"(length)); /* so that clang keeps the next line for Linux 6.1's verifier */
	length = ((length - 1) & (CHECKSUM_CHUNK - 1)) + 1;
	buffer->words[length / 4] = 0; /* the rest of the last word */
	if (bpf_xdp_load_bytes(walk->ctx, walk->offset, buffer->words, length)) {
		walk->failed = true;
		return 1;
	}
	walk->sum += (__u32)bpf_csum_diff(NULL, 0, buffer->words, (length + 3) & ~3U, 0);
	walk->offset += length;
	walk->left -= length;
	return 0;
}

/* The folded sum over a stretch of the frame, over all buffers. False: unreadable. Verified by itself, like parse(). */
__noinline bool csum_range(struct xdp_md *ctx, __u32 offset, __u32 length, __u16 *sum)
{
	struct csum_walk walk = {
		.ctx = ctx,
		.offset = offset,
		.left = length,
	};

	if (!sum)
		return false;
	bpf_loop(65536 / CHECKSUM_CHUNK + 1, csum_step, &walk, 0);
	*sum = csum_fold(walk.sum);
	return !walk.failed && !walk.left;
}

#endif
