/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every struct and enum that the data plane shares with Go. */
#ifndef TINYLB_TYPES_H
#define TINYLB_TYPES_H

#include <linux/bpf.h>
#include <linux/types.h>

/* Enums that are one byte long. */
#define BYTE_ENUM __attribute__((packed))

#define ASSERT_SIZE(type, bytes) \
	_Static_assert(sizeof(type) == (bytes), #type " has another size in Go")

/* What becomes of a packet. The first five are XDP's own actions. */
enum verdict {
	VERDICT_ABORTED = XDP_ABORTED,
	VERDICT_DROP = XDP_DROP,
	VERDICT_PASS = XDP_PASS,
	VERDICT_TX = XDP_TX,
	VERDICT_REDIRECT = XDP_REDIRECT,
	VERDICT_CONTINUE, /* the next stage decides */
	VERDICT_ICMP, /* an ICMP message: pkt->reason, unless it turns out to be for us */
	VERDICT_OPEN, /* a new flow begins with it, to pkt->backend */
	VERDICT_ANSWER, /* the sender is told, for the packet's reason */
	VERDICT_LATER, /* a fragment without ports: its datagram decides */
};

/*
 * Why. Each packet is counted under exactly one reason. Go names them in
 * internal/datapath/reason.go; append only, the numbers live in pinned maps.
 */
enum reason {
	REASON_NONE, /* never leaves the program */
	/* not for tinylb: PASS */
	REASON_NOT_IP, /* an EtherType that is not balanced */
	REASON_NOT_OURS, /* no VIP, no SNAT address, no service on that port */
	REASON_OTHER_MAC, /* flooded: the frame was sent to another machine */
	REASON_BAD_IP_HEADER, /* unreadable, so it cannot be known to be ours */
	REASON_OTHER_PROTOCOL, /* neither TCP nor UDP */
	/* forwarded: TX or REDIRECT */
	REASON_NEW_FLOW,
	REASON_FORWARDED, /* client to backend, known flow */
	REASON_REPLY, /* backend to client, known flow */
	/* PASS where no service is known to be meant, else ABORTED or DROP */
	REASON_TRUNCATED, /* shorter than its headers or lengths say */
	REASON_MALFORMED, /* a length field smaller than its own header */
	REASON_FRAGMENT, /* of a datagram that is not for a service: PASS */
	/* for a service: DROP */
	REASON_NO_FLOW, /* nat: TCP without SYN, and no flow to belong to; TX when answered with RST */
	REASON_NO_BACKEND, /* none with weight and a next hop; TX when the sender is told */
	REASON_NO_NEXT_HOP, /* the flow's backend cannot be reached now */
	REASON_BACKEND_GONE, /* the flow's backend was removed */
	REASON_FLOW_TABLE_FULL,
	REASON_SNAT_EXHAUSTED,
	REASON_MANY_HEADERS, /* more VLAN tags or IPv6 extension headers than are handled */
	REASON_ICMP, /* to or from an address of ours: PASS */
	REASON_NEW_FLOW_SNAT, /* dnat: a new flow that is source-NATed too: TX or REDIRECT */
	REASON_TTL_EXPIRED, /* TX when the sender is told, else DROP */
	REASON_TOO_BIG, /* for an IP packet or the driver's buffer, once encapsulated or translated: DROP */
	REASON_SOURCE_ROUTE, /* IPv4 cannot be translated to IPv6 with it: DROP */
	REASON_FLOW_TABLE_BUSY, /* other CPUs open flows in the same place all the time: DROP */
	REASON_NEIGHBOUR, /* asked who has a VIP, by ARP or ND, and was told: TX */
	REASON_MTU_EXCEEDED, /* too large for where it would leave, TX when the sender is told, else DROP */
	REASON_ECHO, /* an echo request to a VIP that is no address of the host: TX when answered, else DROP */
	REASON_ICMP_ERROR, /* about a packet of a flow: TX or REDIRECT to whoever sent that; DROP where it cannot be translated */
	REASON_PATH_MTU, /* an error that set the path MTU of a tunnel: PASS */
	/* a new flow that is not wanted: DROP */
	REASON_SOURCE_DENIED, /* by the service's list of sources */
	REASON_CLIENT_RATE, /* its client opens too many */
	REASON_SERVICE_RATE, /* all of the service's clients together do */
	REASON_MAX_FLOWS_SERVICE, /* the service has as many as it may have */
	REASON_MAX_FLOWS_BACKEND, /* each of its backends has */
	REASON_FRAGMENT_HELD, /* for its first: DROP, and it follows that */
	REASON_FRAGMENT_OVERLAP, /* it contradicts an earlier one: DROP, and so is all that is left */
	REASON_FRAGMENT_TINY, /* a TCP header lies in more than one: DROP, and so is all that is left */
	REASON_FRAGMENT_DUPLICATE, /* it was there: DROP */
	REASON_FRAGMENT_FULL, /* no room to hold it, or for its datagram: DROP */
	REASON_NO_CHECKSUM, /* a fragmented UDP datagram cannot go to IPv6 without one: DROP */
	REASON_COUNT,
};

/* Room per service in the reason counters, so that new reasons fit. */
#define REASON_SLOTS 64
_Static_assert(REASON_COUNT <= REASON_SLOTS, "reasons outgrew their slots");

/* Network byte order; IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct addr {
	__u32 word[4];
};

/* A 5-tuple as a packet carries it. */
struct tuple {
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad[3];
};
ASSERT_SIZE(struct tuple, 40);

struct service_key {
	struct addr address;
	__u8 protocol;
	__u8 pad;
	__be16 port;
};
ASSERT_SIZE(struct service_key, 20);

/* An aligned block of ports: the key's first bits count. */
struct service_block {
	__u32 bits;
	struct service_key key;
};
ASSERT_SIZE(struct service_block, 24);

enum forward_mode {
	FORWARD_NAT,
	FORWARD_DNAT,
	FORWARD_DSR,
	FORWARD_IPIP,
	FORWARD_GUE,
} BYTE_ENUM;

enum service_flags {
	SERVICE_RANDOM = 1, /* a random entry of the table instead of the hash's */
	SERVICE_LEAST_CONN = 2, /* of two random ones the backend with fewer flows for its weight */
	SERVICE_SILENT = 4, /* who comes while there is no usable backend is not told */
} BYTE_ENUM;

/* How servers write their ids into QUIC connection ids (draft-ietf-quic-load-balancers-21, plaintext CIDs). */
struct quic_layout {
	__u8 config; /* the first three bits */
	__u8 id_length; /* bytes of the server's id, after the first one; 0: they do not */
};
ASSERT_SIZE(struct quic_layout, 2);

/* The longest server id. */
#define QUIC_ID_MAX 15

struct quic_server {
	__u32 service;
	__u8 id_length;
	__u8 id[QUIC_ID_MAX]; /* zeros behind it */
};
ASSERT_SIZE(struct quic_server, 20);

struct service {
	__u32 id;
	enum forward_mode forward;
	enum service_flags flags;
	struct quic_layout quic;
	__u32 table_offset; /* first entry in `tables`, a multiple of TABLE_CHUNK */
	__u32 table_size; /* 0: no usable backend */
};
ASSERT_SIZE(struct service, 16);

/* What a service asks of new flows, beyond what `struct service` says. */
struct policy {
	__u64 name; /* a hash of the service's: its clients' entries in other maps outlive its id */
	__u64 interval; /* ns between two new flows in the long run; 0: any number may come */
	__u64 client_interval; /* the same, of one client */
	__u64 affinity_group; /* a hash of its name; 0: clients do not keep their backend */
	__u64 affinity_timeout; /* ns since a client's last new flow */
	__u32 source_rules; /* which of `source_rules` are the service's; 0: none */
	__u32 max_flows; /* active ones; 0: any number */
	__u8 client_bits_v4; /* of its address, of 128: who counts as one client for its rate ... */
	__u8 client_bits_v6;
	__u8 affinity_bits_v4; /* ... and for affinity */
	__u8 affinity_bits_v6;
	__u8 only_allowed; /* sources that no rule is about may not come */
	__u8 pad[3];
};
ASSERT_SIZE(struct policy, 56);

/* Sources that a service has a rule about: of all that contain an address the longest prefix counts. */
struct source_prefix {
	__u32 bits; /* of what follows that count */
	__u32 rules; /* see struct policy; never 0 */
	__u32 is_v6; /* ::/0 is no prefix of ::ffff:0:0/96 */
	struct addr address;
};
ASSERT_SIZE(struct source_prefix, 28);

enum source_rule {
	SOURCE_ALLOWED = 1,
	SOURCE_DENIED,
};

/* One client's new flows to a service. */
struct client_rate {
	struct addr client; /* its prefix, zeros behind it */
	__u64 service; /* the hash of its name; 0: the entry is nobody's */
	__u64 due; /* ns: as in struct service_rate */
};
ASSERT_SIZE(struct client_rate, 32);

/* Where a hash says that an entry may lie: in one of these. */
#define CLIENT_WAYS 4
struct client_bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct client_rate rates[CLIENT_WAYS];
};
ASSERT_SIZE(struct client_bucket, 136);

struct service_rate {
	__u64 due; /* ns: when the next new flow was due if they came at their rate, without bursts */
	__u64 full_until; /* ns: all backends were seen to be full; believed until then ... */
	__u32 full_flows; /* ... while the service has that many flows */
	__u32 pad;
};
ASSERT_SIZE(struct service_rate, 24);

/* The backend that a client keeps. */
struct affinity {
	struct addr client; /* its prefix, zeros behind it */
	__u64 group; /* see struct policy; 0: the entry is nobody's */
	__u64 until; /* ns */
	struct addr address; /* of the backend: whom to take in another service of the group */
	__u32 backend;
	__u32 generation;
};
ASSERT_SIZE(struct affinity, 56);

struct affinity_bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct affinity kept[CLIENT_WAYS];
};
ASSERT_SIZE(struct affinity_bucket, 232);

/* A service's backend by its address: of several the first one. */
struct backend_key {
	__u32 service;
	struct addr address;
};
ASSERT_SIZE(struct backend_key, 20);

/* Entries of the scheduler tables, sixteen to a cache line. */
#define TABLE_CHUNK 16
struct table_chunk {
	__u32 backend[TABLE_CHUNK];
};
ASSERT_SIZE(struct table_chunk, 64);

enum backend_flags {
	BACKEND_TAKES_FLOWS = 1, /* new ones, also of clients that it is kept for */
} BYTE_ENUM;

struct backend {
	struct addr address;
	struct addr tunnel_source; /* a prefix: the bits behind it come from the flow's hash */
	__be16 port; /* 0: the packet's own */
	__be16 gue_port;
	__u32 snat_first;
	__u16 snat_port_first; /* host byte order, inclusive */
	__u16 snat_port_last;
	__u8 snat_count; /* addresses in `snat_addresses`; 0: none */
	__u8 tunnel_source_bits; /* of 128, IPv4 too; 0: no source is known */
	__u8 timeouts; /* which of `all_timeouts` its flows have */
	enum backend_flags flags;
	__u32 next_hop;
	__u32 generation; /* a flow of another generation had another backend */
	__u32 service; /* 0: the entry is unused */
	struct quic_layout quic;
	__u16 mss; /* that SYNs of its flows may say at most; 0: any; MSS_AUTO: what fits */
};
ASSERT_SIZE(struct backend, 64);

#define MSS_AUTO 0xffff

/* What counts when backends are chosen. */
struct backend_policy {
	__u32 max_flows; /* active ones; 0: any number */
	__u32 weight;
};
ASSERT_SIZE(struct backend_policy, 8);

/* A service's clients whose answers would not pass here. */
struct near_client {
	__u32 bits; /* of what follows that count */
	__u32 service;
	struct addr address;
};
ASSERT_SIZE(struct near_client, 24);

struct snat_address {
	struct addr address;
	__u32 is_vip; /* its service ports must not be taken for SNAT */
};
ASSERT_SIZE(struct snat_address, 20);

/*
 * The VLAN that frames of a link are in: the id in their tag; 0: no tag, or one that only gives a priority. The last id
 * is reserved (IEEE 802.1Q, table 9-2) and stands for all else, two tags or those of 802.1ad.
 */
#define VLAN_IDS 0xfff
#define VLAN_OTHER 0xfff
#define VLAN_AS_IT_CAME 0x8000 /* of a next hop that is known without its VLAN */

/* A link in one number: the VLAN behind the interface's index, which must not need more bits. */
#define LINK_INTERFACE_BITS 20

/* Tags that may stand before the IP header, outermost first, each as it lies in the frame but in host byte order; 0: none. */
#define VLAN_TAGS 2
struct link_tags {
	__u32 tag[VLAN_TAGS];
};
ASSERT_SIZE(struct link_tags, 8);

struct next_hop {
	__u32 interface; /* 0: not known now */
	__u8 mac[6];
	__u16 vlan; /* that frames leave in; not VLAN_OTHER */
	__u8 source_mac[6]; /* zero: the address that the frame was sent to */
	__u16 mtu; /* of IP packets on the interface; 0: not known */
};
ASSERT_SIZE(struct next_hop, 20);

/* What the data plane answers for a VIP. */
enum vip_answers {
	VIP_ANSWERS_ECHO = 1,
	VIP_ANSWERS_NEIGHBOURS = 2, /* who ask for its MAC */
} BYTE_ENUM;

/* A VIP that is no address of the host, so that nobody else answers for it. */
struct foreign_vip {
	enum vip_answers answers;
	__u8 pad[3];
};
ASSERT_SIZE(struct foreign_vip, 4);

/* What the outer headers of ipip and gue have in common that go by one next hop. */
struct tunnel_end {
	__u32 bits; /* of what follows that count */
	struct addr backend;
	__be16 gue_port; /* 0: ipip */
	__u16 pad;
	struct addr source; /* a prefix */
};
ASSERT_SIZE(struct tunnel_end, 40);

/* What a router on the way to a tunnel's end said. */
struct path_mtu {
	struct addr backend; /* there, whoever has the next hop's number by now */
	__u64 until; /* ns: it may have become larger by then */
	__u32 mtu; /* of the outer packet, its IP header included; 0: none is known */
	__u32 pad;
};
ASSERT_SIZE(struct path_mtu, 32);

enum direction {
	FROM_CLIENT,
	FROM_BACKEND,
};

/*
 * What a slot of `flows` holds. Live phases are in the order in which flows give way
 * when room is needed: the last ones first, the first two never.
 */
enum flow_phase {
	PHASE_FREE, /* nothing, or one CPU is filling or clearing it */
	PHASE_TCP_ESTABLISHED,
	PHASE_TCP_HALF_CLOSED, /* FIN from one side */
	PHASE_UDP_STREAM,
	PHASE_UDP_UNCONFIRMED,
	PHASE_TCP_UNCONFIRMED,
	PHASE_TCP_CLOSED, /* FIN from both sides, or RST */
	PHASE_COUNT,
} BYTE_ENUM;

enum flow_flags {
	FLOW_ANSWERED = 1, /* the backend has sent something */
	FLOW_CONFIRMED =
		2, /* and the client something after that; where answers do not pass: a second packet */
	FLOW_FIN_CLIENT = 4,
	FLOW_FIN_BACKEND = 8,
	FLOW_RESET = 16,
	FLOW_REQUEST_V6 = 32, /* the family of the tuple, as is the next */
	FLOW_ANSWER_V6 = 64,
} BYTE_ENUM;

/* What changes in a flow's life; eight bytes, so that it changes at once. */
struct flow_life {
	__u32 turn; /* how often the slot was cleared: who sees the same turn before and after saw one flow */
	enum flow_phase phase;
	enum flow_flags flags;
	enum forward_mode forward;
	__u8 protocol;
};
ASSERT_SIZE(struct flow_life, 8);

/* A tuple's part that IPv4 needs: of each address the last 32 bits. */
struct flow_ends {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
};
ASSERT_SIZE(struct flow_ends, 12);

/* The first 12 bytes of a client's frames. */
struct flow_macs {
	__u8 local[6]; /* sent to which address of ours ... */
	__u8 client[6]; /* ... by whom */
};
ASSERT_SIZE(struct flow_macs, 12);

/*
 * One connection, in one cache line. Where its request's tuple hashes to is where it lies;
 * its answers find it through `answer_slots`.
 */
struct flow {
	__u64 last_seen; /* ns of the clock in clock.h */
	struct flow_life life;
	__u32 backend;
	__u32 backend_generation;
	struct flow_macs macs;
	__u32 client_link; /* where the client's packets come in */
	struct flow_ends request; /* as the client's packets carry it */
	struct flow_ends answer; /* as the backend's do; the destination only where they pass here */
};
ASSERT_SIZE(struct flow, 64);

/* The rest of an IPv6 address. */
struct addr_prefix {
	__u32 word[3];
};

/* The rest of the tuples of a flow that has IPv6 in one of them; in the slot of the same number. */
struct flow_prefixes {
	struct addr_prefix request_src;
	struct addr_prefix request_dst;
	struct addr_prefix answer_src;
	struct addr_prefix answer_dst;
	__u32 change; /* of a checksum, when a request's addresses become those toward the backend */
	struct link_tags
		client_tags; /* without priority, where the client's VLAN is VLAN_OTHER, in IPv4 too */
	__u32 pad; /* to a cache line */
};
ASSERT_SIZE(struct flow_prefixes, 64);

/*
 * 32 places, each with 16 bits of the hash of who has it; 0: nobody. One cache line tells
 * where in a table to look, and whether at all. Four to a word, to be compared at once.
 */
#define BUCKET_PLACES 32
#define BUCKET_WORDS 8
#define WORD_PLACES 4
struct bucket {
	__u64 words[BUCKET_WORDS];
};
ASSERT_SIZE(struct bucket, 64);

/* Of the flows of the bucket's answers, which lie elsewhere. */
struct bucket_slots {
	__u32 slot[BUCKET_PLACES];
};
ASSERT_SIZE(struct bucket_slots, 128);

/*
 * Where requests and answers were ever sent to, for the flow table, by direction: Bloom filters over addresses. Where
 * none can be, nobody looks for one.
 */
#define HISTORY_BITS 12
struct flow_history {
	__u64 sent_to[(1 << HISTORY_BITS) / 64];
};
ASSERT_SIZE(struct flow_history, 512);

/* Of the hash in hash.h: two 32-bit words for each pair of a tuple's words. */
#define HASH_KEYS 10
struct hash_keys {
	__u32 key[HASH_KEYS];
};
ASSERT_SIZE(struct hash_keys, 40);

struct tick {
	__u64 jiffies;
	__u64 now; /* ns */
};
ASSERT_SIZE(struct tick, 16);

/* Where the next search for a free port starts, and when it may go all round again. */
struct port_pool {
	__u64 full_until; /* ns: a whole search found no free port ... */
	enum flow_phase victim; /* ... but a flow in this phase to take one over from */
	__u8 pad[3];
	__u32 cursor;
};
ASSERT_SIZE(struct port_pool, 16);

/* What the data plane says of its own accord. */
enum answer {
	ANSWER_RESET,
	ANSWER_ICMP_ERROR,
	ANSWER_ECHO,
	ANSWER_COUNT,
};

struct settings {
	__u64 smallest_mtu; /* of all known: what is no longer, fits where it leaves as it came */
	__u64 interval[ANSWER_COUNT]; /* ns between two answers in the long run; 0: there are none */
	__u64 fragment_timeout; /* ns: for the first fragment, and then for each further one */
	__u32 held; /* frames that may be held for their first fragment */
	__u32 held_bytes; /* and what of them together */
};
ASSERT_SIZE(struct settings, 48);

/* ns: how long a flow without packets lives. A cache line. */
struct timeouts {
	__u64 of[PHASE_COUNT];
	__u64 pad;
};
ASSERT_SIZE(struct timeouts, 64);

/* ns: when the next answers were due if they came at their rate, without bursts. */
struct answer_clock {
	__u64 due[ANSWER_COUNT];
};
ASSERT_SIZE(struct answer_clock, 24);

/* Where the search for a free slot of `frame_slots` starts, and what of them is held for first fragments. */
struct frame_store {
	__u64 incomplete; /* datagrams that were never completed, as far as their entries were needed for others */
	__u64 held_bytes;
	__u32 held;
	__u32 cursor;
	__u32 swept; /* the tick up to which those held too long have been let go of */
	__u32 pad;
};
ASSERT_SIZE(struct frame_store, 32);

/* A slot of `frame_slots`, as somebody saw it; turn 0: none. */
struct frame_ref {
	__u32 index;
	__u32 turn;
};

/* Frames that go one behind the other. */
struct frame_chain {
	struct frame_ref first;
	struct frame_ref last;
};
ASSERT_SIZE(struct frame_chain, 16);

/* What fragments of one datagram have in common (RFC 791, 3.2; RFC 8200, 4.5). */
struct datagram_key {
	struct addr src;
	struct addr dst;
	__u32 id;
	__u8 protocol; /* IPv4 only */
	__u8 pad[3];
};
ASSERT_SIZE(struct datagram_key, 40);

enum datagram_state {
	DATAGRAM_NONE,
	DATAGRAM_WAITING, /* for its first fragment; or that is on its way through the stages */
	DATAGRAM_FORWARDED,
	DATAGRAM_PASSED, /* to the host: not for a service */
	DATAGRAM_REFUSED,
} BYTE_ENUM;

/* A datagram of which a fragment has come. */
struct datagram {
	__u64 deadline; /* ns of the clock in clock.h */
	struct datagram_key key;
	struct frame_chain held;
	__u32 slot; /* of its flow, and that flow's turn */
	__u32 turn;
	__u32 id; /* that its fragments leave with */
	__u32 end; /* bytes; 0: not known */
	__u32 reach; /* how far any fragment went */
	__u32 received; /* units */
	enum reason reason; /* why it is refused; while it waits, why it will be */
	__be16 dport;
	enum datagram_state state;
	__u8 direction;
	__u8 protocol; /* of its first fragment */
	__u8 pad[3];
};
ASSERT_SIZE(struct datagram, 104);

/* Which units of eight bytes have been there, and where fragments began. */
#define DATAGRAM_UNITS 8192
#define UNIT_WORDS (DATAGRAM_UNITS / 64)
struct datagram_units {
	__u64 there[UNIT_WORDS];
	__u64 starts[UNIT_WORDS];
};
ASSERT_SIZE(struct datagram_units, 2048);

/*
 * Bloom filters. The first, of one cache line: as destinations VIPs and SNAT addresses, as
 * sources the backends of dnat services. The second: VIPs with their port, of services that have but one;
 * what is in it is likely a request, which says in which table to look first.
 */
#define PORT_FILTER_BITS 12
struct address_filter {
	__u64 bits[8];
	__u64 ports[(1 << PORT_FILTER_BITS) / 64];
};
ASSERT_SIZE(struct address_filter, 576);

/* Packets of one service, by reason. One element a service: the kernel takes half a microsecond to allocate each. */
struct reason_counters {
	__u64 packets[REASON_SLOTS];
};

struct backend_counters {
	__u64 packets_in; /* toward the backend */
	__u64 bytes_in;
	__u64 packets_out; /* from the backend */
	__u64 bytes_out;
	__u64 flows; /* created */
};
ASSERT_SIZE(struct backend_counters, 40);

/*
 * Flows of a backend that are not closed. Whoever changes a flow's phase to or from one of those changes it, so it is exact. Flows of a
 * backend that is gone are still counted, until they are cleared.
 */
struct flow_count {
	__u32 active;
	__u32 service; /* that they are also counted for */
};
ASSERT_SIZE(struct flow_count, 8);

/* Of the program in sweep.bpf.c. */
struct sweeper {
	struct bpf_timer timer;
	__u32 next; /* bucket of `flows` */
	__u32 pad;
};
ASSERT_SIZE(struct sweeper, 24);

/* `simulate` and tests: what the clock and the dice show. */
struct test_input {
	__u64 now; /* ns */
	__u64 random;
};
ASSERT_SIZE(struct test_input, 16);

/* `simulate` and tests: what became of the last packet. */
struct decision {
	enum verdict verdict;
	enum reason reason;
	__u32 service;
	__u32 backend;
	__u32 is_parcel; /* it goes on to the program in emit.bpf.c; see frames.h */
};
ASSERT_SIZE(struct decision, 20);

/* For user space only: what the ids stand for. */
#define NAME_LENGTH 64
struct service_name {
	char name[NAME_LENGTH];
	struct addr address;
	__be16 port_first;
	__be16 port_last;
	__u8 tcp;
	__u8 udp;
	__u16 pad;
};
ASSERT_SIZE(struct service_name, 88);

struct backend_name {
	char name[NAME_LENGTH]; /* "" where the config gives none */
	struct addr address;
	__be16 port;
	__u16 pad;
	__u32 weight;
	__u32 service;
};
ASSERT_SIZE(struct backend_name, 92);

/* For user space only: what health checks have found out. */
enum health_state {
	HEALTH_UNKNOWN,
	HEALTH_NEW,
	HEALTH_UP,
	HEALTH_DOWN,
};

#define CAUSE_LENGTH 71
struct health_event {
	__u64 at; /* ns since 1970; 0: there was none */
	char cause[CAUSE_LENGTH];
	__u8 state;
};
ASSERT_SIZE(struct health_event, 80);

#define HEALTH_TRANSITIONS 10
struct backend_health {
	struct health_event error; /* the last one */
	struct health_event transitions[HEALTH_TRANSITIONS]; /* the oldest first */
	enum health_state state;
	__u32 pad;
};
ASSERT_SIZE(struct backend_health,
	    888); /* with what the kernel adds, less than the 1024 that it allocates */

#endif
