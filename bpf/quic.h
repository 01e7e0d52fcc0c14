/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection ids of QUIC that name their server: so a client that has got another address keeps it. What is
 * read here is the same in every version (RFC 8999), and the rest as draft-ietf-quic-load-balancers-21
 * has it, with plaintext CIDs.
 */
#ifndef TINYLB_QUIC_H
#define TINYLB_QUIC_H

#include "frames.h"
#include "maps.h"
#include "packet.h"

#define QUIC_LONG_HEADER 0x80
/* Where the id that the client sends to is, and in a long header before that its length. */
#define QUIC_SHORT_ID 1
#define QUIC_LONG_LENGTH 5
#define QUIC_LONG_ID 6
#define QUIC_CONFIG_SHIFT 5

/*
 * The backend of the service that a datagram's connection id names, by its payload, of which there are `length` bytes; 0: none, as in what a
 * client has made up itself. Verified by itself, like parse().
 */
__noinline __u32 quic_named(struct xdp_md *ctx, __u32 at, __u32 length, __u32 service,
			    const struct quic_layout *layout)
{
	__u32 id_length = layout ? bounded(layout->id_length, QUIC_ID_MAX + 1) : 0, *backend;
	struct quic_server key = { .service = service, .id_length = id_length };
	__u8 byte = 0, id_at = QUIC_SHORT_ID;

	if (!id_length || !length || bpf_xdp_load_bytes(ctx, at, &byte, 1))
		return 0;
	if (byte & QUIC_LONG_HEADER) {
		id_at = QUIC_LONG_ID;
		if (length < QUIC_LONG_ID ||
		    bpf_xdp_load_bytes(ctx, at + QUIC_LONG_LENGTH, &byte, 1) || byte <= id_length ||
		    length < QUIC_LONG_ID + (__u32)byte)
			return 0;
	}
	if (length <= id_at + id_length || bpf_xdp_load_bytes(ctx, at + id_at, &byte, 1) ||
	    byte >> QUIC_CONFIG_SHIFT != layout->config || !is_size(&id_length, QUIC_ID_MAX) ||
	    bpf_xdp_load_bytes(ctx, at + id_at + 1, key.id, id_length))
		return 0;
	backend = bpf_map_lookup_elem(&quic_servers, &key);
	return backend ? *backend : 0;
}

#endif
