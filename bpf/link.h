/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* VLAN tags (IEEE 802.1Q, 9.6): which VLAN a frame came in, and which it leaves in. */
#ifndef TINYLB_LINK_H
#define TINYLB_LINK_H

#include "packet.h"

struct vlan_tag {
	__be16 control;
	__be16 protocol; /* of what follows */
};

#define VLAN_PRIORITY \
	0xf000 /* of a tag's control field: priority, and whether to be dropped first */

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

static __always_inline __u16 vlan_of(const struct link_tags *tags)
{
	__u32 outer = tags->tag[0];

	if (!outer)
		return 0;
	return tags->tag[1] || outer >> 16 != ETH_P_8021Q ? VLAN_OTHER : outer & VLAN_IDS;
}

/* Where a packet has come from, or will go to, as flows remember it. */
static __always_inline __u32 link_of(__u32 interface, __u16 vlan)
{
	return interface | (__u32)(vlan & VLAN_IDS) << LINK_INTERFACE_BITS;
}

static __always_inline __u32 link_interface(__u32 link)
{
	return link & ((1U << LINK_INTERFACE_BITS) - 1);
}

static __always_inline __u16 link_vlan(__u32 link)
{
	return link >> LINK_INTERFACE_BITS;
}

/* What stays the same about the tags of a link's frames. */
static __always_inline struct link_tags tags_without_priority(const struct link_tags *tags)
{
	return (struct link_tags){ .tag = { tags->tag[0] & ~VLAN_PRIORITY,
					    tags->tag[1] & ~VLAN_PRIORITY } };
}

/* Tags of a VLAN, with the priority that the packet's own tags gave it. */
static __always_inline struct link_tags tags_with_priority(struct link_tags tags,
							   const struct link_tags *came)
{
	for (int i = 0; i < VLAN_TAGS; i++)
		if (tags.tag[i])
			tags.tag[i] |= came->tag[i] & VLAN_PRIORITY;
	return tags;
}

static __always_inline __u32 tags_size(const struct link_tags *tags)
{
	return (!!tags->tag[0] + !!tags->tag[1]) * sizeof(struct vlan_tag);
}

/* Writes tags behind the frame's MACs, and what follows them. */
static __always_inline bool tags_write(struct xdp_md *ctx, const struct link_tags *tags,
				       __be16 protocol)
{
	__be16 *at = packet_at(ctx, offsetof(struct ethhdr, h_proto), sizeof(*at));
	__u32 offset = sizeof(struct ethhdr);
	struct vlan_tag *tag;

	for (int i = 0; i < VLAN_TAGS && tags->tag[i]; i++, offset += sizeof(*tag)) {
		tag = packet_at(ctx, offset, sizeof(*tag));
		if (!at || !tag)
			return false;
		*at = bpf_htons(tags->tag[i] >> 16);
		tag->control = bpf_htons(tags->tag[i] & 0xffff);
		at = &tag->protocol;
	}
	if (at)
		*at = protocol;
	return at;
}

/*
 * The frame leaves with other tags than it came with; what follows them stays where it is in memory, as in
 * replace_headers(). False: there is no room before it. Verified by itself, like parse().
 */
__noinline bool tags_replace(struct xdp_md *ctx, struct packet *pkt, const struct link_tags *tags)
{
	struct ethhdr *eth = packet_at(ctx, 0, sizeof(*eth)), macs;
	__u32 l3_offset;
	__be16 *protocol;

	if (!pkt || !tags)
		return false;
	protocol = packet_at(ctx, pkt->l3_offset - sizeof(*protocol), sizeof(*protocol));
	if (!eth || !protocol)
		return false;
	macs = *eth;
	macs.h_proto = *protocol;
	l3_offset = sizeof(*eth) + tags_size(tags);
	if (bpf_xdp_adjust_head(ctx, (int)pkt->l3_offset - (int)l3_offset))
		return false;
	eth = packet_at(ctx, 0, sizeof(*eth));
	if (!eth)
		return false;
	*eth = macs;
	pkt->l3_offset = l3_offset;
	return tags_write(ctx, tags, macs.h_proto);
}

#endif
