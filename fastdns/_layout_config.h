/* SPDX-License-Identifier: Apache-2.0
 *
 * _layout_config.h: the segments of configuration and log; a part of _layout.h. SHM_LAYOUT
 */
#ifndef FASTDNS_LAYOUT_CONFIG_H
#define FASTDNS_LAYOUT_CONFIG_H

/* --------------------------------------------------------------------------- config ---- */

/* Numbers in a configuration (listener, group, zone, block, series, upstream) are given once and
 * kept over reloads: entries, waiting clients and counters refer to them. A number that nothing
 * has any more stays empty. */
typedef struct {
    struct sockaddr_in6 address;  /* or a sockaddr_in at its start; family 0: an empty slot */
    uint16_t group;               /* the set of listeners on which the same blocks serve */
    uint8_t wildcard;             /* replies need the address asked */
    uint8_t flags;                /* FD_GROUP_* of its group */
    uint32_t tcp_first_ms;        /* a connection's first octets must come within this */
    uint32_t tcp_idle_ms;         /* between queries; RFC 7766 s6.2.3 */
    uint32_t tcp_queries;         /* on a connection, which is closed when they are answered; 0: no limit */
} fd_listener_t;
_Static_assert(sizeof(fd_listener_t) == 44, "SHM_LAYOUT");

enum {                            /* fd_listener_t.flags */
    FD_GROUP_ANY_CLASS = 1,       /* some block forwards: other classes than IN are asked, too */
    FD_GROUP_FAMILY = 2,          /* some block's answers differ by the client's family */
};

typedef struct {
    struct sockaddr_in6 address;
    uint8_t force_tcp;
    uint8_t max_idle;             /* TCP connections that are kept unused at most; 0: no limit of its own */
    uint8_t pad[2];
    uint32_t expire_ms;           /* unused for so long, a TCP connection is closed */
    uint32_t max_age_ms;          /* after this at the latest it gets no question any more */
    fd_part_t tls;                /* JSON that says how its connections are encrypted; count 0: they are not */
    fd_part_t source;             /* sockaddr that its sockets are bound to, `count` octets; 0: they are not */
} fd_upstream_t;
_Static_assert(sizeof(fd_upstream_t) == 56, "SHM_LAYOUT");

enum {                            /* fd_zone_t.flags */
    FD_ZONE_USED = 1,
    FD_ZONE_REFUSED = 2,          /* nothing in its block answers: REFUSED */
    FD_ZONE_FAMILY = 4,           /* variant is the client's family: dns64 */
    FD_ZONE_CLIENT = 8,           /* the coordinator needs the client: neither joined nor stored */
    FD_ZONE_CACHE = 16,           /* the block has `cache` */
    FD_ZONE_ROTATE = 32,          /* loadbalance */
    FD_ZONE_LOG = 64,
    FD_ZONE_METRICS = 128,        /* the block has `prometheus` */
};

/* A zone of a server block, as one group of listeners serves it. */
typedef struct {
    uint64_t fingerprint;         /* of the block's text: entries of another one are of no use */
    uint32_t name_off;            /* lower case, wire; from the segment's start */
    uint16_t next;                /* of the same hash; FD_NO_ZONE: none */
    uint16_t group;
    uint16_t block;
    uint16_t flags;
    uint16_t edns_max;            /* `bufsize`: at most this; octets */
    uint8_t name_len;
    uint8_t pad[1];
} fd_zone_t;
_Static_assert(sizeof(fd_zone_t) == 24, "SHM_LAYOUT");

/* A network of `loadbalance { prefer }`. */
typedef struct {
    uint8_t address[16];          /* the network's, network order; IPv4: its first four octets */
    uint8_t octets;               /* of an address: 4 or 16 */
    uint8_t bits;                 /* of the prefix */
    uint8_t pad[2];
} fd_network_t;
_Static_assert(sizeof(fd_network_t) == 20, "SHM_LAYOUT");

/* What a block's text says about answers. */
typedef struct {
    uint64_t fingerprint;
    uint16_t number;
    uint8_t caching;              /* 0: joined and handed on, never stored */
    uint8_t uniform_ttl;          /* one TTL for all records of a reply, AA=1 (a block with `cache`) */
    uint32_t ttl_min_s;
    uint32_t ttl_max_s;
    uint32_t negative_min_s;
    uint32_t negative_max_s;
    uint32_t failure_s;           /* RFC 9520 */
    uint32_t stale_s;             /* 0: expired entries are of no use */
    uint32_t capacity[2];         /* entries, success and denial; 0: only octets bound them */
    uint32_t recheck_ms;          /* after a failed refresh the stale answer is given at once for so long */
    uint16_t stale_wait_ms;       /* what upstream gets before clients get the stale answer; 0: they get it first */
    uint16_t stale_ttl_s;         /* of a stale answer's records */
    fd_part_t steps;              /* fd_step_t: what is done to a question, in order */
    uint16_t flags;               /* FD_BLOCK_* */
    uint16_t slow_limit;          /* questions that may wait for the Python thread */
    uint16_t prefetch_hits;       /* that make a name popular: it is asked again ahead of time; 0: never */
    uint8_t prefetch_percent;     /* of its life, left when that is done */
    uint8_t pad[5];
    /* names in lower case, wire, one behind the other; `count` is octets */
    fd_part_t cached;             /* only what lies at or below these is cached; none: everything */
    fd_part_t disabled[2];        /* at or below these nothing is kept: success, denial */
    fd_part_t preferred;          /* fd_network_t: addresses in these come first, the first network's before all */
} fd_block_t;
_Static_assert(sizeof(fd_block_t) == 104, "SHM_LAYOUT");

enum {                            /* fd_block_t.flags */
    FD_BLOCK_KEEP_TTL = 1,        /* hits carry the TTL that was stored */
    FD_BLOCK_ERRORS = 2,          /* failures go to the log */
    FD_BLOCK_LOOP = 4,            /* upstreams that send questions back here are found out */
    FD_BLOCK_CUT = 8,             /* a name below one that doesn't exist doesn't either; RFC 8020 */
    FD_BLOCK_CUT_LEARN = 16,      /* and it is found out which one doesn't */
    FD_BLOCK_PREFER_POSITIVE = 32, /* a negative answer takes no usable one's place */
};

enum {                            /* fd_step_t.kind; what `argument` leads to */
    FD_STEP_FORWARD = 1,          /* fd_forward_t */
    FD_STEP_HOSTS = 2,            /* fd_hosts_t */
    FD_STEP_NAME = 3,             /* fd_rule_t: another name is asked */
    FD_STEP_TYPE = 4,             /* fd_rule_t: another type */
    FD_STEP_CLASS = 5,            /* fd_rule_t: another class */
    FD_STEP_TTL = 6,              /* fd_rule_t: TTLs of the reply are put within bounds */
    FD_STEP_RCODE = 7,            /* fd_rule_t: another code in the reply */
    FD_STEP_WHOAMI = 8,           /* nothing */
    FD_STEP_FAMILY = 10,          /* fd_family_t */
    FD_STEP_SLOW = 9,             /* fd_slow_t: for the Python thread */
};
enum {                            /* fd_step_t.flags */
    FD_STEP_RULE = 1,             /* of `rewrite` */
    FD_STEP_STOP = 2,             /* where it took the question the rules behind it are passed over */
};
enum {                            /* fd_rule_t.match */
    FD_MATCH_EXACT = 0,
    FD_MATCH_PREFIX = 1,
    FD_MATCH_SUFFIX = 2,
    FD_MATCH_SUBSTRING = 3,
};

/* One plugin of a block's chain, or one rule of it. */
typedef struct {
    uint8_t kind;
    uint8_t flags;
    uint16_t number;              /* of the step among the block's, for what lies beside the tables */
    uint32_t argument;            /* offset in the segment of what the kind says */
} fd_step_t;
_Static_assert(sizeof(fd_step_t) == 8, "SHM_LAYOUT");

typedef struct {
    fd_part_t program;            /* octets: JSON that says what to do */
    fd_part_t told;               /* octets: an EDNS option, as on the wire, for replies that it made; none: 0 */
} fd_slow_t;
_Static_assert(sizeof(fd_slow_t) == 16, "SHM_LAYOUT");

enum { FD_TOLD_MAX = 134 };       /* octets of such an option: it fits beside any question into 512 */

enum { FD_FORWARD_UPSTREAMS = 16 };

enum {                            /* fd_forward_t.policy: the order in which a question's upstreams are asked */
    FD_POLICY_SEQUENTIAL = 0,     /* as written */
    FD_POLICY_RANDOM = 1,
    FD_POLICY_ROUND_ROBIN = 2,    /* the next one first, the others as written */
    FD_POLICY_FASTEST = 3,        /* by their round-trip times */
};
enum {                            /* fd_forward_t.flags */
    FD_FORWARD_NODATA_NEXT = 1,   /* on NODATA the step behind it is asked, if it is a forward */
    FD_FORWARD_FAILFAST = 2,      /* SERVFAIL at once when all upstreams are down */
    FD_FORWARD_CHECK_NO_RD = 4,   /* health checks without RD */
};

typedef struct {
    uint32_t name_off;            /* FROM, lower case, wire; from the segment's start */
    uint32_t except_off;          /* names, lower case, wire, one behind the other */
    uint16_t except_len;          /* octets of all of them */
    uint8_t name_len;
    uint8_t upstream_count;
    uint8_t upstreams[FD_FORWARD_UPSTREAMS];   /* numbers, as written */
    uint16_t number;              /* among all forwards of the configuration: its own state's place */
    uint8_t policy;               /* FD_POLICY_* */
    uint8_t flags;                /* FD_FORWARD_* */
    uint32_t next_rcodes;         /* bit r: on rcode r the step behind it is asked, if it is a forward */
    uint32_t failover_rcodes;     /* bit r: on rcode r each of the other upstreams is asked */
    uint32_t max_fails;           /* an upstream is down after more failed checks in a row; 0: never, and not checked */
    uint32_t max_attempts;        /* upstreams that may fail a question; 0: no limit */
    uint32_t max_concurrent;      /* questions under way, more are REFUSED; 0: no limit */
    uint32_t read_timeout_ms;     /* longest wait for one reply; 0: only ours */
    uint32_t check_ms;            /* from one check of an upstream to the next */
    uint32_t check_off;           /* name that a check asks for, lower case, wire */
    uint8_t check_len;
    uint8_t pad[7];
} fd_forward_t;
_Static_assert(sizeof(fd_forward_t) == 72, "SHM_LAYOUT");

/* A rule of `rewrite`. Names are text in lower case, as people write them: a prefix or substring
 * need not end where a label does. */
typedef struct {
    uint32_t from_off;            /* text that the name is compared with; not for TYPE, CLASS */
    uint32_t to_off;              /* NAME: text that takes its place */
    uint16_t from_len;
    uint16_t to_len;
    uint32_t from;                /* TYPE, CLASS, RCODE: what it was; TTL: the least */
    uint32_t to;                  /* what it becomes; TTL: the most */
    uint8_t match;                /* FD_MATCH_* */
    uint8_t automatic;            /* NAME: names in the reply are mapped back */
    uint8_t pad[2];
} fd_rule_t;
_Static_assert(sizeof(fd_rule_t) == 24, "SHM_LAYOUT");

/* An address family that names have not got: their questions of its type are answered NODATA. */
typedef struct {
    uint32_t name_off;            /* at or below this, lower case, wire; from the segment's start */
    fd_part_t except;             /* octets of names: not at or below these */
    uint16_t qtype;
    uint8_t name_len;
    uint8_t pad;
} fd_family_t;
_Static_assert(sizeof(fd_family_t) == 16, "SHM_LAYOUT");

/* The table of `hosts`: what its files and lines say, by exact name. */
typedef struct {
    fd_part_t heads;              /* uint32_t, a power of two: first name of each hash; FD_NO_HOST: none */
    fd_part_t names;              /* fd_host_t */
    fd_part_t zones;              /* octets of names: only what lies at or below these, but PTR */
    fd_part_t through;            /* octets of names: what is unknown below these goes on to the next step */
    uint32_t ttl_s;
    uint8_t pad[4];
} fd_hosts_t;
_Static_assert(sizeof(fd_hosts_t) == 40, "SHM_LAYOUT");
#define FD_NO_HOST 0xffffffffu

typedef struct {
    uint32_t name_off;            /* lower case, wire */
    uint32_t next;                /* of the same hash; FD_NO_HOST: none */
    uint32_t data_off;            /* IPv4 addresses, IPv6 addresses, names for PTR: one behind the other */
    uint16_t v4_count;
    uint16_t v6_count;
    uint16_t ptr_count;
    uint8_t name_len;
    uint8_t pad;
} fd_host_t;
_Static_assert(sizeof(fd_host_t) == 20, "SHM_LAYOUT");

/* Parts lie behind it; their offsets count from the segment's start. */
typedef struct {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t number;              /* of this configuration, growing */
    uint64_t total_size;
    uint32_t worker_count;
    uint32_t listener_count;      /* slots, empty ones included */
    uint32_t upstream_count;      /* likewise */
    uint32_t zone_depth;          /* labels of the longest zone */
    uint32_t tcp_connections;     /* a worker */
    uint32_t tcp_first_ms;        /* the least of all listeners' */
    uint32_t tcp_idle_ms;         /* likewise */
    uint32_t tcp_slow_ms;         /* a reply of which nothing is read, a query that is not finished */
    uint32_t edns_max;            /* octets; the largest UDP reply */
    uint32_t client_deadline_ms;  /* SERVFAIL after this */
    uint32_t question_deadline_ms;/* the coordinator's, for all attempts of one question */
    uint32_t retry_floor_ms;      /* least silence before a question is asked again */
    uint32_t worker_uid, coordinator_uid, drop_gid;   /* 0: stay as we are */
    uint32_t pad0;
    fd_part_t zone_heads;         /* uint16_t, a power of two: first zone of each hash */
    fd_part_t zones;              /* fd_zone_t, by number */
    fd_part_t blocks;             /* fd_block_t, by number */
    fd_part_t series;             /* uint16_t [listener_count][zones.count + 1]: the last of each row is for
                                   * queries that no zone took */
    fd_part_t notes;              /* control's own, for its successor: which number means what */
    fd_listener_t listeners[FD_MAX_LISTENERS];
    fd_upstream_t upstreams[FD_MAX_UPSTREAMS];
} fd_config_t;

/* ------------------------------------------------------------------------------ log ---- */

/* A ring to control: lines of `log` and `errors`. Full: the record is dropped and counted. */
typedef struct {
    uint64_t magic;               /* keeper, once */
    uint32_t layout_version;
    uint32_t octets;              /* of the ring's data, which follows */
    uint64_t total_size;
    uint8_t pad0[FD_LINE - 24];
    fd_ring_t ring;
} fd_log_t;
_Static_assert(sizeof(fd_log_t) == 4 * FD_LINE, "SHM_LAYOUT");

enum {                            /* fd_record_t.kind in a log */
    FD_RECORD_LOG_QUERY = 16,
    FD_RECORD_LOG_ERROR = 17,
};

/* A query that was answered, as `log` shows it. */
typedef struct {
    fd_record_t record;
    uint64_t time_ms;             /* CLOCK_BOOTTIME, of the reply */
    uint32_t duration_us;
    uint16_t zone;                /* FD_NO_ZONE: none took it */
    uint16_t id;                  /* host order */
    struct sockaddr_in6 peer;
    fd_local_t local;             /* wildcard listeners only */
    uint16_t query_flags;
    uint16_t reply_flags;         /* 0: nothing was sent */
    uint16_t rcode;               /* extended */
    uint16_t qtype;
    uint16_t qclass;
    uint16_t request_size;        /* octets */
    uint16_t reply_size;          /* without OPT, truncation and compression */
    uint16_t udp_size;            /* the client's; 65535 over TCP */
    uint8_t listener;
    uint8_t tcp;
    uint8_t edns;                 /* FD_EDNS_* */
    uint8_t qname_len;
    uint8_t entry_kind;           /* FD_ENTRY_*: of the entry that was sent; 0: there was none */
    uint8_t pad[3];
    /* qname, as the client wrote it, qname_len octets */
} fd_log_query_t;
_Static_assert(sizeof(fd_log_query_t) % 8 == 0, "SHM_LAYOUT");

enum {                            /* fd_log_error_t.kind */
    FD_ERROR_TIMEOUT = 1,         /* upstream was silent */
    FD_ERROR_REFUSED = 2,         /* nobody there; `error` is the kernel's number */
    FD_ERROR_NO_UPSTREAM = 3,     /* none is usable */
    FD_ERROR_NO_NEXT = 4,         /* no forward took the name */
    FD_ERROR_BUSY = 5,            /* a queue or table was full */
    FD_ERROR_LOOP = 7,            /* the upstream sends questions back here; it is left alone for a while */
    FD_ERROR_CONCURRENT = 8,      /* more at once than `max_concurrent`; the text behind the name is that number */
    FD_ERROR_PLUGIN = 6,          /* a regular expression or template failed; a text follows the name */
};

/* A question that could not be answered, as `errors` shows it. */
typedef struct {
    fd_record_t record;
    uint64_t time_ms;
    uint16_t zone;
    uint16_t rcode;
    uint16_t qtype;
    uint16_t upstream;            /* asked last; 0xffff: none */
    uint16_t error;               /* errno */
    uint16_t text_len;            /* octets behind the name */
    uint8_t kind;                 /* FD_ERROR_* */
    uint8_t tcp;
    uint8_t qname_len;
    uint8_t pad[1];
    /* qname, lower case, then the text */
} fd_log_error_t;
_Static_assert(sizeof(fd_log_error_t) == 32, "SHM_LAYOUT");

/* --------------------------------------------------------------------------- ledger ---- */

enum {
    FD_HEALTH_BUCKETS = 6,        /* 250 us, 2.5 ms, 25 ms, 250 ms, 2.5 s, more */
    FD_SETUP_ERRORS = 5,          /* iptables, iptables_lock, interface_add, interface_check, configmap */
};

/* What control counts, kept for its successor: totals must not go back when it dies. */
typedef struct {
    uint64_t magic;               /* keeper, once */
    uint32_t layout_version;
    uint32_t pad0;
    uint64_t total_size;
    uint8_t pad1[FD_LINE - 24];
    uint64_t health_times[FD_HEALTH_BUCKETS];   /* control, all that follows: its own questions to /health */
    uint64_t health_us;           /* sum */
    uint64_t health_failures;
    uint64_t setup_errors[FD_SETUP_ERRORS];
    uint64_t reloads;             /* tried, whatever came of it */
    uint64_t reload_failures;     /* those that the plugin `reload` tried */
    uint64_t lines_dropped;       /* log lines that nobody read in time */
    uint64_t scrapes;             /* of /metrics, answered */
    uint64_t scrapes_failed;
    uint64_t pad2[6];
} fd_ledger_t;
_Static_assert(sizeof(fd_ledger_t) == 4 * FD_LINE, "SHM_LAYOUT");

/* By number; the caller has checked it against the part's count. */
static inline const fd_zone_t *fd_zone(const fd_config_t *config, uint32_t number)
{
    return (const fd_zone_t *)fd_at(config, config->zones.off) + number;
}
static inline const fd_block_t *fd_block(const fd_config_t *config, uint32_t number)
{
    return (const fd_block_t *)fd_at(config, config->blocks.off) + number;
}

/* The EDNS option of a block's step (fd_entry_t.told), or NULL. */
static inline const fd_part_t *fd_told(const fd_config_t *config, const fd_block_t *block, uint32_t told)
{
    const fd_step_t *step = (const fd_step_t *)fd_at(config, block->steps.off) + told - 1;
    if (told == 0 || told > block->steps.count || step->kind != FD_STEP_SLOW)
        return NULL;
    return &((const fd_slow_t *)fd_at(config, step->argument))->told;
}

#endif
