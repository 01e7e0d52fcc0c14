/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The largest packet that the path to a backend takes, where routers on it have said so about a tunnel's packets
 * (RFC 1191, RFC 8201). The host's own path MTU discovery knows nothing of packets that it did not send.
 */
#ifndef TINYLB_PATH_MTU_H
#define TINYLB_PATH_MTU_H

#include "maps.h"
#include "packet.h"

/* Until a larger one may be tried (RFC 1191, 6.3; RFC 8201, 4). */
#define PATH_MTU_NS 600000000000ULL

/* IPv4's own minimum, 68, only serves who wants to slow others down; every host takes 576 (RFC 791, 3.1; RFC 8200, 5). */
#define PATH_MTU_MIN_V4 576
#define PATH_MTU_MIN_V6 1280

static __always_inline struct path_mtu *path_mtu_of(const struct backend *backend)
{
	__u32 id = backend->next_hop;

	return bpf_map_lookup_elem(&path_mtus, &id);
}

/* Of the outer packets to a backend, IP header included; 0: none is known. */
static __always_inline __u32 path_mtu(const struct backend *backend, __u64 now)
{
	struct path_mtu *known = path_mtu_of(backend);

	if (!known || known->until <= now || !addr_equal(&known->backend, &backend->address))
		return 0;
	return known->mtu;
}

/* Says that packets to a backend must not be larger than `mtu`. It never makes room for larger ones. */
static __always_inline void path_mtu_lower(const struct backend *backend, __u32 mtu, __u64 now)
{
	__u32 least = addr_is_v4(&backend->address) ? PATH_MTU_MIN_V4 : PATH_MTU_MIN_V6;
	struct path_mtu *known = path_mtu_of(backend);
	__u32 before = path_mtu(backend, now);

	if (mtu < least)
		mtu = least;
	if (!known || (before && before < mtu))
		return;
	/* in this order: nobody is to take a stranger's MTU for this one */
	*(volatile __u64 *)&known->until = 0;
	known->backend = backend->address;
	*(volatile __u32 *)&known->mtu = mtu;
	*(volatile __u64 *)&known->until = now + PATH_MTU_NS;
}

#endif
