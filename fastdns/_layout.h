/* SPDX-License-Identifier: Apache-2.0
 *
 * _layout.h: every structure that lies in memory shared between processes. SHM_LAYOUT
 * docs/shm-layout.md shows the same tables for people; tests/meta/test_layout.py compares them.
 * A change here that moves a field needs a new FD_LAYOUT_VERSION.
 *
 * Segments (each a memfd of its own, mode 0600):
 *   cache    header page, then the shards       coordinator writes, workers map it read-only
 *   region   one a worker                       that worker and the coordinator write
 *   log      one a worker, one the coordinator  that process and control write
 *   post     the coordinator's own page(s)      coordinator and keeper write
 *   ledger   what control counts                control writes
 *   board    the keeper's notes                 keeper writes, control and `fastdns stats` read
 *   config   what control decided, sealed       nobody writes
 * Offsets, never pointers. Times are CLOCK_BOOTTIME in ms unless a name says _s.
 * Multi-octet fields are in host order but where "wire" is said.
 */
#ifndef FASTDNS_LAYOUT_H
#define FASTDNS_LAYOUT_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "_counters.h"

#define FD_LAYOUT_VERSION 7u
#define FD_MAGIC_CACHE  0x3143534e44534146ull   /* "FASDNSC1" */
#define FD_MAGIC_REGION 0x3152534e44534146ull
#define FD_MAGIC_POST   0x3150534e44534146ull
#define FD_MAGIC_BOARD  0x3142534e44534146ull
#define FD_MAGIC_CONFIG 0x3147534e44534146ull
#define FD_MAGIC_LOG    0x314c534e44534146ull
#define FD_MAGIC_LEDGER 0x3144534e44534146ull

#define FD_LINE 64u               /* octets in a cache line, and the alignment that parts get */
#define FD_PAGE 4096u

enum {
    FD_MAX_WORKERS = 16,
    FD_MAX_LISTENERS = 32,        /* addresses served */
    FD_MAX_UPSTREAMS = 32,        /* in all; CoreDNS takes 15 a forward */
    FD_MAX_PREFERRED = 64,        /* networks of one block's `prefer` */
    FD_MAX_ZONES = 1024,          /* of all server blocks, once for each group that serves it */
    FD_MAX_BLOCKS = 128,
    FD_MAX_SERIES = 1024,         /* pairs of listener and zone that are counted apart */
    FD_NO_ZONE = 0xffff,
    FD_NO_SERIES = 0xffff,
    FD_BATCH = 64,                /* datagrams in one recvmmsg */
    FD_RX_BUFFER = 4096,          /* octets; the largest UDP query and reply */
    FD_RX_STRIDE = FD_RX_BUFFER + 64, /* from buffer to buffer: at 4096 all headers would share one set of
                                   * the first-level cache */
    FD_CONTROL_BUFFER = 64,       /* octets of ancillary data a datagram (pktinfo) */
    FD_QNAME_MAX = 255,           /* RFC 1035 s2.3.4 */
    FD_BUCKET_SLOTS = 10,
    FD_UNIT = 16,                 /* octets; entries are placed and sized in units */
};

/* ------------------------------------------------------------------ cache segment ---- */

/* Header, one page. Written by the keeper before anybody attaches, then only its second last line,
 * by the coordinator that takes the cache over. */
typedef struct {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t shard_count;         /* power of two */
    uint64_t total_size;          /* octets, header page included */
    uint32_t shard_size;          /* octets, multiple of FD_PAGE */
    uint32_t bucket_count;        /* in each shard, power of two */
    uint64_t geometry_sum;        /* checksum over the fields above and the struct sizes */
    uint64_t hash_key[2];         /* SipHash key, random, made with the cache */
    uint8_t boot_id[16];          /* the boot whose CLOCK_BOOTTIME the entries mean */
    uint64_t time_ns_inode;       /* /proc/self/ns/time */
    uint8_t pad0[48];
    uint64_t generation;          /* of the writer; it compares this before each store */
    uint64_t stale_epoch;         /* grows when an upstream is back: marks of an older one are void */
    uint8_t pad1[48];
} fd_cache_header_t;
_Static_assert(offsetof(fd_cache_header_t, generation) == 2 * FD_LINE, "SHM_LAYOUT");
_Static_assert(sizeof(fd_cache_header_t) == 3 * FD_LINE, "SHM_LAYOUT");

/* Index bucket, one cache line, never moves. `seq` is odd while the writer changes it or an
 * entry that one of its slots points to. tag 0 is an empty slot. off and len in FD_UNITs, off
 * from the start of the shard. A shard is bucket_count buckets, then entries. */
typedef struct {
    uint32_t seq;
    uint16_t tag[FD_BUCKET_SLOTS];
    uint16_t off[FD_BUCKET_SLOTS];
    uint16_t len[FD_BUCKET_SLOTS];
} fd_bucket_t;
_Static_assert(sizeof(fd_bucket_t) == FD_LINE, "SHM_LAYOUT: a bucket is one line");

enum {                            /* fd_entry_t.kind */
    FD_ENTRY_POSITIVE = 1,
    FD_ENTRY_NODATA = 2,
    FD_ENTRY_NXDOMAIN = 3,
    FD_ENTRY_FAILURE = 4,         /* upstream said SERVFAIL and the like; RFC 9520 */
};
enum {                            /* fd_entry_t.marks */
    FD_ENTRY_CHANGED = 1,         /* a table (hosts, rewrite, template, another block) had its part in it:
                                   * any reload drops it */
    FD_ENTRY_KEEP_TTL = 2,        /* its TTLs don't count down (`keepttl`) */
    FD_ENTRY_TRANSLATED = 4,      /* dns64 made it of A records */
    FD_ENTRY_PREFERRED = 8,       /* while it can be given, only another one with records takes its place */
};
enum {                            /* key flags */
    FD_KEY_DO = 1,
    FD_KEY_CD = 2,
};

/* An answer: header, then qname (lower case, wire, qname_len octets), zero octets up to an even
 * offset, ttl_count TTL offsets (u16, from the start of the records, wire order of the records),
 * zero octets up to a multiple of 8, then the records as they go on the wire: what follows the
 * question in a reply, without OPT. Compression pointers in it count from the reply's start, so
 * they hold for every reply to a question of this qname_len. The same structure lies in the
 * cache and in answer records. */
typedef struct {
    uint64_t key_hash;
    uint64_t stored_ms;           /* when the response arrived */
    uint64_t stale_mark;          /* fd_stale_mark: answered at once though stale; RFC 8767 s5; 0 = no;
                                   * of a failure: silence_mark (_cache.pxd) */
    uint64_t fingerprint;         /* of the block's text */
    uint32_t slot_ref;            /* back reference: bucket * FD_BUCKET_SLOTS + slot */
    uint32_t ttl_s;               /* lifetime from stored_ms */
    uint32_t stale_s;             /* kept for stale use after that */
    uint16_t group;
    uint8_t variant;              /* 0, 4 or 6 */
    uint8_t key_flags;
    uint16_t qtype;
    uint16_t qclass;
    uint16_t zone;                /* number of the zone it was answered under: block and labels follow */
    uint8_t plugin;               /* FD_PLUGIN_*: what made it */
    uint8_t marks;                /* FD_ENTRY_* marks below */
    uint16_t msg_flags;           /* header's second 16 bits: AA TC RA AD rcode kept, the rest 0 */
    uint16_t ancount;
    uint16_t nscount;
    uint16_t arcount;             /* without OPT */
    uint16_t records_len;         /* octets */
    uint16_t ttl_count;           /* ancount + nscount + arcount */
    uint16_t plain_len;           /* octets of the whole message without compression, 65535 at most */
    uint8_t qname_len;            /* octets, root label included, 1..255 */
    uint8_t kind;
    uint8_t ext_rcode;            /* upper 8 bits of an extended rcode; RFC 6891 s6.1.3 */
    uint8_t rotate_len;           /* octets of each record of the run that a reply may begin anywhere in */
    uint16_t rotate_off;          /* where the run begins; from the start of the records */
    uint16_t rotate_count;        /* its records; 0: there is none */
    uint16_t told;                /* step of the block whose EDNS option goes out with it, from 1; 0: none */
} fd_entry_t;
_Static_assert(sizeof(fd_entry_t) == 80, "SHM_LAYOUT");

/* A stale mark: 48 bits of ms (8,900 years), and the header's epoch that it holds for. */
static inline uint64_t fd_stale_mark(uint64_t until, uint64_t epoch) { return epoch << 48 | (until & ~0ull >> 16); }
static inline int fd_stale_now(uint64_t mark, uint64_t now_ms, uint64_t epoch)
{
    return now_ms < (mark & ~0ull >> 16) && mark >> 48 == (epoch & 0xffff);
}

#define FD_ENTRY_QNAME_OFF ((uint32_t)sizeof(fd_entry_t))
static inline uint32_t fd_entry_ttl_off(uint8_t qname_len) { return (FD_ENTRY_QNAME_OFF + qname_len + 1u) & ~1u; }
static inline uint32_t fd_entry_records_off(uint8_t qname_len, uint16_t ttl_count)
{
    return (fd_entry_ttl_off(qname_len) + 2u * ttl_count + 7u) & ~7u;
}
static inline uint32_t fd_entry_size(uint8_t qname_len, uint16_t ttl_count, uint16_t records_len)
{
    return fd_entry_records_off(qname_len, ttl_count) + records_len;
}
/* Header 80 + qname 256 + 65535/11 TTL offsets + records, rounded up: the largest entry. */
#define FD_ENTRY_MAX 77888u
_Static_assert(80 + 256 + 2 * (65535 / 11) + 8 + 65535 <= FD_ENTRY_MAX, "an entry always fits its buffer");

/* ---------------------------------------------------------------------------- rings ---- */

/* Head and tail are free-running counters of octets; size is a power of two. Records are
 * 8-aligned, never wrap, and begin with fd_record_t. One line each for what the consumer
 * writes, what the producer writes, and the sleeping word (consumer) that the producer reads. */
typedef struct {
    uint32_t tail;                /* consumer */
    uint8_t pad0[FD_LINE - 4];
    uint32_t head;                /* producer */
    uint32_t marked;              /* producer: counts records that found the ring full */
    uint8_t pad1[FD_LINE - 8];
    uint32_t sleeping;            /* consumer: 1 while it waits in the kernel */
    uint8_t pad2[FD_LINE - 4];
} fd_ring_t;
_Static_assert(sizeof(fd_ring_t) == 3 * FD_LINE, "SHM_LAYOUT");

enum {                            /* fd_record_t.kind */
    FD_RECORD_SKIP = 1,           /* fills the end of the ring */
    FD_RECORD_QUESTION = 2,
    FD_RECORD_ANSWER = 3,         /* an fd_entry_t follows */
    FD_RECORD_FAILURE = 4,        /* SERVFAIL with `ede`; nothing follows */
};

typedef struct {
    uint32_t len;                 /* octets, this header included, multiple of 8 */
    uint8_t kind;
    uint8_t flags;
    uint16_t ede;                 /* RFC 8914 info code of a failure; FD_EDE_NONE = none */
} fd_record_t;
#define FD_EDE_NONE 0xffffu

enum {                            /* fd_question_t.flags */
    FD_Q_RD = 1,                  /* recursion desired */
    FD_Q_ALONE = 2,               /* neither joined nor stored: RD=0, or a block asks for the client */
    FD_Q_CLIENT = 4,              /* an fd_question_client_t follows the name, at a multiple of 8 */
    FD_Q_REFRESH = 8,             /* nobody waits, there is no ticket: the answer is for the cache */
};

/* A ticket is pending slot (low 32 bits) and its use count (high 32). */
typedef struct {
    fd_record_t record;
    uint64_t ticket;
    uint64_t key_hash;
    uint16_t group;
    uint8_t variant;
    uint8_t key_flags;
    uint16_t qtype;
    uint16_t qclass;
    uint32_t client_tag;
    uint8_t qname_len;
    uint8_t flags;
    uint8_t pad[2];
    /* qname, lower case, qname_len octets */
} fd_question_t;
_Static_assert(sizeof(fd_question_t) == 40, "SHM_LAYOUT");

typedef struct {
    fd_record_t record;
    uint64_t ticket;
    /* fd_entry_t for FD_RECORD_ANSWER */
} fd_answer_t;
_Static_assert(sizeof(fd_answer_t) == 16, "SHM_LAYOUT");

/* ------------------------------------------------------------------- worker region ---- */

/* What CoreDNS's metrics count for a (server, zone) pair, and what `cache` counts. Indexes below. */
enum {
    FD_PLUGIN_NONE = 0,           /* the core wrote the reply */
    FD_PLUGIN_CACHE, FD_PLUGIN_LOADBALANCE, FD_PLUGIN_FORWARD, FD_PLUGIN_HOSTS, FD_PLUGIN_TEMPLATE,
    FD_PLUGIN_REWRITE, FD_PLUGIN_DNS64, FD_PLUGIN_LOOP, FD_PLUGIN_WHOAMI,
    FD_PLUGINS,
    FD_TYPES = 19,                /* A AAAA CNAME DNSKEY DS HTTPS MX NS NSEC NSEC3 PTR RRSIG SOA SRV TXT ANY
                                   * AXFR IXFR other */
    FD_RCODES = 18,               /* 0 to 15, BADVERS, other */
    FD_SIZE_BUCKETS = 15,         /* 0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000,
                                   * 48000, 64000, more; octets */
    FD_TIME_BUCKETS = 17,         /* 250 us * 2^k, k = 0..15, more */
    FD_FINE_BUCKETS = 20,         /* 10, 20, 50, 100 us ... 10 s, more */
};

typedef struct {
    uint64_t requests[2][FD_TYPES];            /* UDP, TCP */
    uint64_t responses[FD_PLUGINS][FD_RCODES];
    uint64_t request_sizes[2][FD_SIZE_BUCKETS];
    uint64_t request_octets[2];
    uint64_t response_sizes[2][FD_SIZE_BUCKETS];   /* without OPT, truncation and compression */
    uint64_t response_octets[2];
    uint64_t times[FD_TIME_BUCKETS];
    uint64_t times_us;                         /* sum */
    uint64_t do_requests;
    uint64_t cache_hits[2];                    /* success, denial */
    uint64_t cache_misses;
    uint64_t served_stale;
    uint64_t dns64_translated;
    uint64_t pad[6];
} fd_series_t;
_Static_assert(sizeof(fd_series_t) % FD_LINE == 0, "SHM_LAYOUT");

/* Waits of all clients of a worker, from the batch's receiving to its sending, or to the answer. */
typedef struct {
    uint64_t hits[FD_FINE_BUCKETS];
    uint64_t hits_us;
    uint64_t misses[FD_FINE_BUCKETS];
    uint64_t misses_us;
} fd_waits_t;

/* What a process has in hand. Set before the work on an item starts, cleared when it is done; read
 * by the successor (design "Deaths"). */
typedef struct {
    uint64_t hash;                /* of the question's key; 0: nothing, or a packet that is not parsed yet */
    uint32_t off;                 /* where its bytes lie in this segment */
    uint32_t len;                 /* octets; 0: there are none */
} fd_in_hand_t;
_Static_assert(sizeof(fd_in_hand_t) == 16, "SHM_LAYOUT");

/* What processes died on. One death makes a suspect, the second has it refused. */
typedef struct {
    uint64_t hash;                /* key hash, or a packet's; 0: a free place */
    uint64_t until_ms;            /* forgotten then */
    uint32_t deaths;
    uint32_t pad;
} fd_suspect_t;
_Static_assert(sizeof(fd_suspect_t) == 24, "SHM_LAYOUT");
enum { FD_SUSPECTS = 16 };        /* remembered at a time; the oldest makes room */

enum {                            /* fd_region_t.stop, fd_post_t.stop */
    FD_STOP_NO = 0,
    FD_STOP_DRAIN = 1,            /* the end: receive no more, answer what waits, leave */
    FD_STOP_NOW = 2,              /* leave at once; what waits over UDP is the successor's */
    FD_STOP_ROLL = 3,             /* as NOW, once TCP connections have had what they asked for, 5 s at most */
};

typedef struct {                  /* one part of a segment */
    uint32_t off;                 /* octets from the segment's start, FD_LINE-aligned */
    uint32_t count;               /* octets for rings and pools, elements elsewhere */
} fd_part_t;

/* The first lines of the region, one writer each. */
typedef struct {
    /* written once, by the keeper */
    uint64_t magic;
    uint32_t layout_version;
    uint32_t index;
    uint64_t total_size;
    uint64_t geometry_sum;
    fd_part_t questions;          /* ring data, worker to coordinator */
    fd_part_t answers;            /* ring data, coordinator to worker */
    fd_part_t pending;            /* fd_pending_t */
    fd_part_t clients;            /* fd_client_t */
    fd_part_t batch;              /* fd_batch_t, one */
    fd_part_t hits;               /* uint16_t, one a slot of the cache */
    fd_part_t tcp;                /* octets of the TCP pool */
    fd_part_t series;             /* fd_series_t, the worker writes */
    uint8_t pad0[32];
    /* keeper */
    uint32_t stop;                /* FD_STOP_* */
    uint32_t starts;              /* of this child so far */
    uint8_t pad1[FD_LINE - 8];
    /* worker */
    uint64_t heartbeat;
    uint32_t pid;
    uint32_t serving;             /* 1 while it answers */
    uint32_t pending_used;
    uint32_t clients_used;
    uint32_t tcp_connections;
    uint32_t tcp_blocks;          /* of the TCP pool, in use */
    fd_in_hand_t in_hand;
    uint8_t pad2[16];
    /* coordinator */
    uint64_t coordinator_generation;
    uint8_t pad3[FD_LINE - 8];
    fd_ring_t question_ring;
    fd_ring_t answer_ring;
    fd_waits_t waits;             /* worker, all that follows */
    uint32_t pending_high;        /* slots of the pending table that were ever used; the others are zeros */
    uint32_t clients_high;        /* likewise places for clients */
    uint8_t pad4[40];
    fd_suspect_t suspects[FD_SUSPECTS];
    uint64_t counters[(FD_COUNTERS + 7) / 8 * 8];
} fd_region_t;
_Static_assert(offsetof(fd_region_t, stop) == 2 * FD_LINE, "SHM_LAYOUT");
_Static_assert(offsetof(fd_region_t, heartbeat) == 3 * FD_LINE, "SHM_LAYOUT");
_Static_assert(offsetof(fd_region_t, coordinator_generation) == 4 * FD_LINE, "SHM_LAYOUT");
_Static_assert(offsetof(fd_region_t, question_ring) == 5 * FD_LINE, "SHM_LAYOUT");

enum {                            /* fd_pending_t.state */
    FD_PENDING_FREE = 0,
    FD_PENDING_ASKED = 1,         /* its question was put into the ring */
    FD_PENDING_UNSENT = 2,        /* the ring was full */
};

/* A question that waits for the coordinator. The use count grows at each new use and goes on
 * over deaths. Chains, free lists and the hash index are the worker's own memory, rebuilt from
 * a scan of these facts. */
typedef struct {
    uint32_t state;               /* stored last when the slot is taken, first when it is freed */
    uint32_t use;
    uint64_t key_hash;
    uint64_t asked_ms;            /* when first put */
    uint16_t group;
    uint8_t variant;
    uint8_t key_flags;
    uint16_t qtype;
    uint16_t qclass;
    uint8_t qname_len;
    uint8_t flags;                /* FD_Q_* */
    uint16_t stale_ms;            /* after asked_ms: then its clients get the stale answer that was there; 0: none */
    uint8_t pad[4];
    uint8_t qname[FD_QNAME_MAX + 1];   /* lower case */
} fd_pending_t;
_Static_assert(sizeof(fd_pending_t) == 296, "SHM_LAYOUT");

enum {                            /* fd_client_t.state */
    FD_CLIENT_FREE = 0,
    FD_CLIENT_UDP = 1,
    FD_CLIENT_TCP = 2,
};

/* The address a datagram or a connection came to: the source of its reply (IP_PKTINFO, IPV6_PKTINFO). */
typedef struct {
    uint8_t address[16];          /* wire; IPv4 in the first 4 */
    uint32_t ifindex;
} fd_local_t;

/* Who asks, for blocks whose answers depend on it. Its question is FD_Q_ALONE too. */
typedef struct {
    struct sockaddr_in6 peer;     /* or a sockaddr_in at its start */
    fd_local_t local;             /* wildcard listeners only */
    uint8_t listener;
    uint8_t tcp;
    uint8_t edns;                 /* FD_EDNS_* */
    uint8_t pad;
    uint16_t udp_size;            /* the client's; TCP: 65535 */
    uint8_t pad1[2];
} fd_question_client_t;
_Static_assert(sizeof(fd_question_client_t) == 56, "SHM_LAYOUT");
static inline uint32_t fd_question_client_off(uint8_t qname_len)
{
    return ((uint32_t)sizeof(fd_question_t) + qname_len + 7u) & ~7u;
}

/* A client that waits on a pending question. */
typedef struct {
    uint32_t state;               /* stored last when taken, first when freed */
    uint32_t pending;             /* slot of the question */
    uint32_t use;                 /* of that slot: a client of an older use is void */
    uint32_t connection_use;      /* TCP */
    uint64_t arrived_us;
    struct sockaddr_in6 peer;     /* or a sockaddr_in at its start */
    fd_local_t local;             /* wildcard listeners only */
    uint16_t id;
    uint16_t flags;               /* header's second 16 bits as the client sent them */
    uint16_t udp_size;            /* largest reply the client takes; TCP: 65535 */
    uint16_t connection;          /* TCP */
    uint16_t zone;                /* number; its questions and replies are counted under it */
    uint16_t request_size;        /* octets */
    uint8_t listener;
    uint8_t edns;                 /* fd_query_t.edns */
    uint8_t pad[2];
    uint8_t case_bits[32];        /* bit i: octet i of the qname came in upper case */
} fd_client_t;
_Static_assert(sizeof(fd_client_t) == 120, "SHM_LAYOUT");

enum {                            /* fd_query_t.edns */
    FD_EDNS_PRESENT = 1,
    FD_EDNS_DO = 2,
};

/* A parsed query. Parsing fills it, composing a reply needs nothing else but the question's own
 * octets at offset 12 of the packet. */
typedef struct {
    uint64_t key_hash;            /* over group, variant, qname, qtype, qclass, DO, CD */
    uint16_t id;                  /* as on the wire, not swapped */
    uint16_t flags;               /* header's second 16 bits, host order */
    uint16_t qtype;
    uint16_t qclass;
    uint16_t udp_size;            /* octets; 512 without OPT, else OPT's, at least 512 */
    uint16_t group;
    uint8_t variant;
    uint8_t key_flags;
    uint8_t edns;
    uint8_t qname_len;
    uint8_t qname[FD_QNAME_MAX + 1];   /* lower case, zero octets up to a multiple of 8 */
} fd_query_t;
_Static_assert(sizeof(fd_query_t) == 280, "SHM_LAYOUT");
_Static_assert(offsetof(fd_query_t, qname) % 8 == 0, "the hash reads the name by words");

enum {                            /* fd_batch_t.status */
    FD_RX_RECEIVED = 0,
    FD_RX_PARSED = 1,             /* its fd_query_t is whole; the packet past the question may be not */
    FD_RX_REPLY = 2,              /* the reply stands in the buffer, its length in the iovec */
    FD_RX_DONE = 3,               /* chained to a pending question, or dropped */
};

/* One batch of received datagrams. `count` says how many a dead worker had in hand: set to
 * FD_BATCH with all msg_len 0 before recvmmsg, to the number received after it, to 0 when all
 * replies were sent. Pointers inside are the writing process's; a successor sets them anew. */
typedef struct {
    uint32_t count;
    uint32_t listener;
    uint8_t pad0[FD_LINE - 8];
    uint8_t status[FD_BATCH];
    struct mmsghdr messages[FD_BATCH];
    struct iovec vectors[FD_BATCH];
    struct sockaddr_in6 peers[FD_BATCH];
    uint8_t control[FD_BATCH][FD_CONTROL_BUFFER];
    fd_query_t queries[FD_BATCH];
    uint8_t buffers[FD_BATCH][FD_RX_STRIDE];
} fd_batch_t;
_Static_assert(offsetof(fd_batch_t, buffers) % 8 == 0, "SHM_LAYOUT");

/* ------------------------------------------------------------ coordinator's segment ---- */

/* CoreDNS's proxy metrics of an upstream. */
enum { FD_UPSTREAM_RCODES = 8 };  /* 0 to 5, BADVERS, other */
typedef struct {
    uint64_t times[FD_UPSTREAM_RCODES][FD_TIME_BUCKETS];
    uint64_t times_us[FD_UPSTREAM_RCODES];
    uint64_t health_failures;
    uint64_t reused[2];           /* exchanges on a socket that was there: UDP, TCP */
    uint64_t dialed[2];           /* on a new one */
    uint64_t whose;               /* a hash of the upstream's address: another one begins at 0 */
    uint64_t pad[2];
} fd_upstream_series_t;
_Static_assert(sizeof(fd_upstream_series_t) % FD_LINE == 0, "SHM_LAYOUT");

/* The cache's and the plugins' share of a server block. */
typedef struct {
    uint64_t entries[2];          /* success, denial */
    uint64_t evictions[2];
    uint64_t prefetches;
    uint64_t drops;
    uint64_t template_matches;
    uint64_t pad;
} fd_block_series_t;
_Static_assert(sizeof(fd_block_series_t) == FD_LINE, "SHM_LAYOUT");

/* As fd_in_hand_t, for a question whose name lies nowhere else. */
typedef struct {
    uint64_t hash;                /* of the key; 0: nothing */
    uint32_t qname_len;           /* octets */
    uint32_t pad;
    uint8_t qname[FD_QNAME_MAX + 1];   /* lower case, wire: for the log */
} fd_question_in_hand_t;
_Static_assert(sizeof(fd_question_in_hand_t) == 272, "SHM_LAYOUT");

typedef struct {
    uint64_t magic;               /* keeper, once */
    uint32_t layout_version;
    uint32_t pad0;
    uint64_t total_size;
    uint8_t pad1[FD_LINE - 24];
    uint32_t stop;                /* keeper; FD_STOP_NO or FD_STOP_NOW */
    uint32_t starts;
    uint8_t pad2[FD_LINE - 8];
    uint64_t heartbeat;           /* coordinator, all that follows */
    uint64_t generation;
    uint32_t pid;
    uint32_t serving;
    uint32_t inflight_used;
    uint32_t swept;               /* number of the configuration that the whole cache agrees with */
    uint64_t entries;             /* in the cache, all shards */
    uint64_t entry_octets;
    fd_question_in_hand_t in_hand;
    fd_question_in_hand_t thread_in_hand;          /* its Python thread's; the thread writes */
    fd_suspect_t suspects[FD_SUSPECTS];
    uint16_t upstream_wait_ms[FD_MAX_UPSTREAMS];   /* silence allowed to each; 0: not measured */
    uint8_t pad3[48];
    fd_upstream_series_t upstream_series[FD_MAX_UPSTREAMS];
    fd_block_series_t block_series[FD_MAX_BLOCKS];
    uint64_t counters[(FD_COUNTERS + 7) / 8 * 8];
} fd_post_t;
_Static_assert(offsetof(fd_post_t, stop) == FD_LINE, "SHM_LAYOUT");
_Static_assert(offsetof(fd_post_t, counters) % FD_LINE == 0, "SHM_LAYOUT");
_Static_assert(offsetof(fd_post_t, heartbeat) == 2 * FD_LINE, "SHM_LAYOUT");

/* ------------------------------------------------------------------- keeper's board ---- */

enum {                            /* fd_child_t.role */
    FD_ROLE_CONTROL = 1,
    FD_ROLE_COORDINATOR = 2,
    FD_ROLE_WORKER = 3,
};
enum {                            /* fd_child_t.state */
    FD_CHILD_NONE = 0,
    FD_CHILD_RUNNING = 1,
    FD_CHILD_WAITING = 2,         /* dead, back-off before the next start */
    FD_CHILD_STOPPED = 3,         /* left by stop word */
};

typedef struct {
    uint32_t role;
    uint32_t index;               /* of a worker */
    uint32_t state;
    uint32_t pid;
    uint32_t restarts;            /* deaths that were followed by a start */
    uint32_t stuck;               /* times it was killed because its heartbeat stood still */
    uint64_t started_ms;
    uint64_t died_ms;             /* last death */
    int32_t last_status;          /* wait status of the last death */
    uint32_t pad[5];
} fd_child_t;
_Static_assert(sizeof(fd_child_t) == FD_LINE, "SHM_LAYOUT");

typedef struct {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t child_count;
    uint64_t started_ms;
    uint32_t keeper_pid;
    uint32_t worker_count;
    uint64_t ticks;               /* the keeper's own, of 100 ms */
    uint64_t late_ticks;
    uint32_t addresses;           /* of the node, that the keeper renews */
    uint32_t addresses_away;      /* 1: given up, or run out */
    uint32_t address_trips;
    uint32_t address_returns;
    fd_child_t children[FD_MAX_WORKERS + 2];   /* control, coordinator, workers */
} fd_board_t;
_Static_assert(offsetof(fd_board_t, children) == FD_LINE, "SHM_LAYOUT");

/* ------------------------------------------------------------------------- helpers ---- */

static inline void *fd_at(const void *segment, uint64_t off) { return (char *)(uintptr_t)segment + off; }

#include "_layout_config.h"

#endif
