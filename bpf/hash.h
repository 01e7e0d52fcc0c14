/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The hash of a tuple that decides where in the flow table it lies: NH of UMAC (Black et al.,
 * "UMAC: Fast and Secure Message Authentication", CRYPTO 1999), keyed by what only this
 * host knows, so that nobody can make up tuples that meet in one place. Its products do
 * not wait for each other.
 */
#ifndef TINYLB_HASH_H
#define TINYLB_HASH_H

#include "config.h"
#include "packet.h"

static __always_inline __u64 hash_pair(__u32 a, __u32 b, __u32 n)
{
	return (__u64)(__u32)(a + flow_hash_keys.key[2 * n]) *
	       (__u32)(b + flow_hash_keys.key[2 * n + 1]);
}

/* NH's upper bits are good, its lower ones are not: Fibonacci hashing (Knuth, TAOCP 3, 6.4) spreads them. */
static __always_inline __u64 hash_finish(__u64 sum)
{
	sum = (sum ^ sum >> 32) * 0x9e3779b97f4a7c15ULL;
	return sum ^ sum >> 32;
}

static __always_inline __u64 hash_v4(__be32 src, __be32 dst, __u32 ports, __u8 protocol)
{
	return hash_finish(hash_pair(src, dst, 0) + hash_pair(ports, protocol, 1));
}

static __always_inline __u64 hash_v6(const __u32 *src, const __u32 *dst, __u32 ports, __u8 protocol)
{
	return hash_finish(hash_pair(src[3], dst[3], 0) + hash_pair(ports, protocol, 1) +
			   hash_pair(src[0], dst[0], 2) + hash_pair(src[1], dst[1], 3) +
			   hash_pair(src[2], dst[2], 4));
}

/* Of a client to whoever `of` stands for. */
static __always_inline __u64 hash_client(const struct addr *client, __u64 of)
{
	return hash_finish(hash_pair(client->word[0], client->word[1], 0) +
			   hash_pair(client->word[2], client->word[3], 1) +
			   hash_pair(of, of >> 32, 2));
}

static __always_inline __u32 ports_word(__be16 sport, __be16 dport)
{
	return sport | (__u32)dport << 16;
}

static __always_inline __u64 hash_tuple(const struct tuple *t)
{
	__u32 ports = ports_word(t->sport, t->dport);

	return addr_is_v4(&t->dst) ? hash_v4(t->src.word[3], t->dst.word[3], ports, t->protocol) :
				     hash_v6(t->src.word, t->dst.word, ports, t->protocol);
}

#endif
