/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map: who writes it, who reads it, why that size. Sizes of 1 are set at load from `limits`. */
#ifndef TINYLB_MAPS_H
#define TINYLB_MAPS_H

#include "types.h"
#include <bpf/bpf_helpers.h>

/* daemon -> data plane, per new flow. limits.services, twice for tcp and udp. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key);
	__type(value, struct service);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} services SEC(".maps");

/* daemon -> data plane, per new flow to a port that `services` does not have. limits.services, 64 blocks each. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_block);
	__type(value, struct service);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_blocks SEC(".maps");

/* daemon -> data plane, per new flow: by service id. As many as services; id 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct policy);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} policies SEC(".maps");

/* daemon -> data plane, per new flow to services with such rules. limits.prefixes, twice: new ones are written beside the old. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_prefix);
	__type(value, enum source_rule);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} source_rules SEC(".maps");

/* data plane only, per new flow to services with a rate or full backends: by service id. As many as services; id 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct service_rate);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_rates SEC(".maps");

/* data plane only, per new flow to services with a rate for clients. limits.clients, in whole buckets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct client_bucket);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} client_buckets SEC(".maps");

/* data plane only, per new flow to services with affinity. limits.affinity, in whole buckets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct affinity_bucket);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} affinity_buckets SEC(".maps");

/* daemon -> data plane, per new flow of a client with a backend in another service of its group. Twice as many as backends. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_key);
	__type(value, __u32);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} affinity_backends SEC(".maps");

/* daemon -> data plane, per new flow in dnat: the link that they share with backends; 0: any. Three times as many as backends, and 1024. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct near_client);
	__type(value, __u32);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} near_clients SEC(".maps");

/* daemon -> data plane, per echo request, ARP request and neighbour solicitation. limits.services, twice for a change. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr);
	__type(value, struct foreign_vip);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} foreign_vips SEC(".maps");

/* daemon -> data plane, per ICMP error: a backend that such packets of ours go to. Twice as many as backends, for a change, and 1024. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tunnel_end);
	__type(value, __u32);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tunnel_ends SEC(".maps");

/* data plane only: by the number of the next hop, as each address of backends has one; see path_mtu.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct path_mtu);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} path_mtus SEC(".maps");

/* daemon -> data plane, per new flow: all Maglev tables, one beside the other. limits.table_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct table_chunk);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tables SEC(".maps");

/* daemon -> data plane, per packet. limits.backends; id 0 is nobody. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} backends SEC(".maps");

/*
 * daemon -> data plane, per packet of services with QUIC connection ids: the backend with a server id, if it can be sent to. As
 * many as backends.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct quic_server);
	__type(value, __u32);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} quic_servers SEC(".maps");

/* daemon -> data plane, per new flow: by backend id. As many as backends. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend_policy);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} backend_policies SEC(".maps");

/* daemon -> data plane, per packet. As many as backends; id 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct next_hop);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} next_hops SEC(".maps");

/* daemon -> data plane, per packet that may be too large: of IP packets, by the index of an interface that packets come in by. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} interface_mtus SEC(".maps");

/* daemon -> data plane, per new flow: lists that backends point into. As many as backends, at least 1024. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct snat_address);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} snat_addresses SEC(".maps");

/* daemon -> data plane, per packet: by class, which backends name. The first is what flows have whose backend is gone. */
#define TIMEOUT_CLASSES 256
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct timeouts);
	__uint(max_entries, TIMEOUT_CLASSES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_timeouts SEC(".maps");

/* daemon -> data plane, per answer. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_settings SEC(".maps");

/* daemon -> data plane, per packet: the first thing that any packet meets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct address_filter);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} address_filters SEC(".maps");

/* data plane only; user space lists it. limits.flows, in whole buckets; mapped, so that listing costs no system call a flow. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");

/* data plane only; user space lists it. As many as flows; only those with IPv6, or with a client behind unusual tags, touch theirs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_prefixes);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_flow_prefixes SEC(".maps");

/*
 * data plane only: which slots of `flows` are taken, and by whom, flow_bucket_count, one for 32; then the same of
 * `answer_slots`. One map, so that the kernel can make a look-up part of the program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} buckets SEC(".maps");

/* data plane only: where in `flows` answers lead. A quarter more than flows, so that it is never full before them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bucket_slots);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} answer_slots SEC(".maps");

/* data plane only, per new flow; by enum direction. It lives as long as the flows. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct flow_history);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_histories SEC(".maps");

/* data plane only, per new flow: see lock.h. Enough for CPUs not to meet by chance. */
#define LOCKS 1024
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, LOCKS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} locks SEC(".maps");

/* user space, once: what only this host knows; see hash.h. It lives as long as the flows. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct hash_keys);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_hash_keys SEC(".maps");

/* data plane only: the time of this tick; see clock.h. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct tick);
	__uint(max_entries, 1);
} ticks SEC(".maps");

/* data plane only, per stored frame; user space shows it. See frames.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct frame_store);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} frame_stores SEC(".maps");

/* data plane only, per fragment; user space counts what was never completed. Sets of DATAGRAM_WAYS; see datagram.h. */
#define DATAGRAM_WAYS 8
#define DATAGRAM_SETS 256
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct datagram);
	__uint(max_entries, DATAGRAM_WAYS *DATAGRAM_SETS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} datagrams SEC(".maps");

/* data plane only, per fragment: the rest of these, in the entry of the same number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct datagram_units);
	__uint(max_entries, DATAGRAM_WAYS *DATAGRAM_SETS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_datagram_units SEC(".maps");

/* data plane only, per answer. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct answer_clock);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} answer_clocks SEC(".maps");

/* data plane only, per new flow: one for each backend and protocol. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct port_pool);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} port_pools SEC(".maps");

/* data plane only, per new flow; see count.h. Two for each backend: the next one that gets its id has the other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct flow_count);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_counts SEC(".maps");

/* data plane only, per new flow: the same of a service's backends together. As many as services; id 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_flow_counts SEC(".maps");

/* data plane only: what clears dead flows, for as long as this map is pinned; see sweep.bpf.c. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct sweeper);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sweepers SEC(".maps");

/* data plane -> user space: by service id; service 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct reason_counters);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_reason_counters SEC(".maps");

/* data plane -> user space: by backend id. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct backend_counters);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_backend_counters SEC(".maps");

/* data plane only: packet bytes on their way into a checksum; see csum.h. */
#define CHECKSUM_CHUNK 512
struct checksum_buffer {
	__u32 words[CHECKSUM_CHUNK / 4 + 1];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct checksum_buffer);
	__uint(max_entries, 1);
} checksum_buffers SEC(".maps");

/* daemon only: what the ids in the other maps stand for, so that any process can read them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct service_name);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct backend_name);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} backend_names SEC(".maps");

/* daemon only: what its health checks say, for the next daemon and whoever asks. limits.backends, but only those that are checked. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct backend_health);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} all_backend_health SEC(".maps");

/* `simulate` and tests only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct test_input);
	__uint(max_entries, 1);
} test_inputs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct decision);
	__uint(max_entries, 1);
} decisions SEC(".maps");

#endif
