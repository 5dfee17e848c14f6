# SPDX-License-Identifier: Apache-2.0
# _shm.pxd: cimport face of _layout.h, _atomics.h and _counters.h; no code. SHM_LAYOUT
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        sa_family_t sa_family

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        sa_family_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        sa_family_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

cdef extern from "<sys/socket.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

cdef extern from "_atomics.h" nogil:
    uint16_t fd_load16(const void *p) noexcept
    uint32_t fd_load32(const void *p) noexcept
    uint64_t fd_load64(const void *p) noexcept
    void fd_store16(void *p, uint16_t v) noexcept
    void fd_store32(void *p, uint32_t v) noexcept
    void fd_store64(void *p, uint64_t v) noexcept
    void fd_count(uint64_t *p, uint64_t n) noexcept
    uint32_t fd_acquire32(const void *p) noexcept
    void fd_release32(void *p, uint32_t v) noexcept
    uint64_t fd_acquire64(const void *p) noexcept
    void fd_release64(void *p, uint64_t v) noexcept
    uint32_t fd_seq_begin(const uint32_t *seq) noexcept
    bint fd_seq_same(const uint32_t *seq, uint32_t begun) noexcept
    void fd_seq_open(uint32_t *seq) noexcept
    void fd_seq_close(uint32_t *seq) noexcept
    void fd_copy_out(void *to, const void *from_, size_t n) noexcept
    void fd_copy_out_at(void *to, const void *from_, size_t off, size_t n) noexcept
    void fd_copy_in(void *to, const void *from_, size_t n) noexcept
    void fd_announce_sleep(uint32_t *sleeping) noexcept
    bint fd_must_wake(const uint32_t *sleeping) noexcept

cdef extern from "_layout.h" nogil:
    enum:
        FD_LAYOUT_VERSION
        FD_LINE
        FD_PAGE
        FD_MAX_WORKERS
        FD_MAX_LISTENERS
        FD_MAX_UPSTREAMS
        FD_MAX_PREFERRED
        FD_MAX_ZONES
        FD_MAX_BLOCKS
        FD_MAX_SERIES
        FD_NO_ZONE
        FD_NO_SERIES
        FD_BATCH
        FD_RX_BUFFER
        FD_RX_STRIDE
        FD_CONTROL_BUFFER
        FD_QNAME_MAX
        FD_BUCKET_SLOTS
        FD_UNIT
        FD_ENTRY_MAX
        FD_ENTRY_POSITIVE, FD_ENTRY_NODATA, FD_ENTRY_NXDOMAIN, FD_ENTRY_FAILURE
        FD_ENTRY_CHANGED, FD_ENTRY_KEEP_TTL, FD_ENTRY_TRANSLATED, FD_ENTRY_PREFERRED
        FD_KEY_DO, FD_KEY_CD
        FD_RECORD_SKIP, FD_RECORD_QUESTION, FD_RECORD_ANSWER, FD_RECORD_FAILURE
        FD_EDE_NONE
        FD_Q_RD, FD_Q_ALONE, FD_Q_CLIENT, FD_Q_REFRESH
        FD_STOP_NO, FD_STOP_DRAIN, FD_STOP_NOW, FD_STOP_ROLL
        FD_PENDING_FREE, FD_PENDING_ASKED, FD_PENDING_UNSENT
        FD_CLIENT_FREE, FD_CLIENT_UDP, FD_CLIENT_TCP
        FD_EDNS_PRESENT, FD_EDNS_DO
        FD_RX_RECEIVED, FD_RX_PARSED, FD_RX_REPLY, FD_RX_DONE
        FD_SUSPECTS
        FD_ROLE_CONTROL, FD_ROLE_COORDINATOR, FD_ROLE_WORKER
        FD_CHILD_NONE, FD_CHILD_RUNNING, FD_CHILD_WAITING, FD_CHILD_STOPPED
        FD_PLUGIN_NONE, FD_PLUGIN_CACHE, FD_PLUGIN_LOADBALANCE, FD_PLUGIN_FORWARD, FD_PLUGIN_HOSTS
        FD_PLUGIN_TEMPLATE, FD_PLUGIN_REWRITE, FD_PLUGIN_DNS64, FD_PLUGIN_LOOP, FD_PLUGIN_WHOAMI
        FD_PLUGINS
        FD_TYPES, FD_RCODES, FD_SIZE_BUCKETS, FD_TIME_BUCKETS, FD_FINE_BUCKETS, FD_UPSTREAM_RCODES
        FD_GROUP_ANY_CLASS, FD_GROUP_FAMILY
        FD_ZONE_USED, FD_ZONE_REFUSED, FD_ZONE_FAMILY, FD_ZONE_CLIENT, FD_ZONE_CACHE, FD_ZONE_ROTATE
        FD_ZONE_LOG, FD_ZONE_METRICS
        FD_BLOCK_KEEP_TTL, FD_BLOCK_ERRORS, FD_BLOCK_LOOP, FD_BLOCK_CUT, FD_BLOCK_CUT_LEARN
        FD_BLOCK_PREFER_POSITIVE
        FD_STEP_FORWARD, FD_STEP_HOSTS, FD_STEP_NAME, FD_STEP_TYPE, FD_STEP_CLASS, FD_STEP_TTL
        FD_STEP_RCODE, FD_STEP_WHOAMI, FD_STEP_SLOW, FD_STEP_FAMILY
        FD_STEP_RULE, FD_STEP_STOP
        FD_MATCH_EXACT, FD_MATCH_PREFIX, FD_MATCH_SUFFIX, FD_MATCH_SUBSTRING
        FD_FORWARD_UPSTREAMS, FD_FORWARD_NODATA_NEXT, FD_FORWARD_FAILFAST, FD_FORWARD_CHECK_NO_RD
        FD_POLICY_SEQUENTIAL, FD_POLICY_RANDOM, FD_POLICY_ROUND_ROBIN, FD_POLICY_FASTEST
        FD_RECORD_LOG_QUERY, FD_RECORD_LOG_ERROR
        FD_ERROR_TIMEOUT, FD_ERROR_REFUSED, FD_ERROR_NO_UPSTREAM, FD_ERROR_NO_NEXT, FD_ERROR_BUSY
        FD_ERROR_PLUGIN, FD_ERROR_LOOP, FD_ERROR_CONCURRENT
    const uint64_t FD_MAGIC_CACHE
    const uint64_t FD_MAGIC_REGION
    const uint64_t FD_MAGIC_POST
    const uint64_t FD_MAGIC_BOARD
    const uint64_t FD_MAGIC_CONFIG
    const uint64_t FD_MAGIC_LOG
    const uint64_t FD_MAGIC_LEDGER

    ctypedef struct fd_cache_header_t:
        uint64_t magic
        uint32_t layout_version, shard_count
        uint64_t total_size
        uint32_t shard_size, bucket_count
        uint64_t geometry_sum
        uint64_t hash_key[2]
        uint8_t boot_id[16]
        uint64_t time_ns_inode, generation, stale_epoch

    ctypedef struct fd_bucket_t:
        uint32_t seq
        uint16_t tag[10]
        uint16_t off[10]
        uint16_t len[10]

    ctypedef struct fd_entry_t:
        uint64_t key_hash, stored_ms, stale_mark, fingerprint
        uint32_t slot_ref, ttl_s, stale_s
        uint16_t group
        uint8_t variant, key_flags
        uint16_t qtype, qclass, zone
        uint8_t plugin, marks
        uint16_t msg_flags, ancount, nscount, arcount, records_len, ttl_count, plain_len
        uint8_t qname_len, kind, ext_rcode, rotate_len
        uint16_t rotate_off, rotate_count, told

    const uint32_t FD_ENTRY_QNAME_OFF
    uint32_t fd_entry_ttl_off(uint8_t qname_len) noexcept
    uint32_t fd_entry_records_off(uint8_t qname_len, uint16_t ttl_count) noexcept
    uint32_t fd_entry_size(uint8_t qname_len, uint16_t ttl_count, uint16_t records_len) noexcept
    uint64_t fd_stale_mark(uint64_t until_ms, uint64_t epoch) noexcept
    bint fd_stale_now(uint64_t mark, uint64_t now_ms, uint64_t epoch) noexcept

    ctypedef struct fd_ring_t:
        uint32_t tail, head, marked, sleeping

    ctypedef struct fd_record_t:
        uint32_t len
        uint8_t kind, flags
        uint16_t ede

    ctypedef struct fd_question_t:
        fd_record_t record
        uint64_t ticket, key_hash
        uint16_t group
        uint8_t variant, key_flags
        uint16_t qtype, qclass
        uint32_t client_tag
        uint8_t qname_len, flags

    ctypedef struct fd_answer_t:
        fd_record_t record
        uint64_t ticket

    ctypedef struct fd_series_t:
        uint64_t requests[2][19]
        uint64_t responses[10][18]
        uint64_t request_sizes[2][15]
        uint64_t request_octets[2]
        uint64_t response_sizes[2][15]
        uint64_t response_octets[2]
        uint64_t times[17]
        uint64_t times_us, do_requests
        uint64_t cache_hits[2]
        uint64_t cache_misses, served_stale, dns64_translated

    ctypedef struct fd_waits_t:
        uint64_t hits[20]
        uint64_t hits_us
        uint64_t misses[20]
        uint64_t misses_us

    ctypedef struct fd_in_hand_t:
        uint64_t hash
        uint32_t off, len

    ctypedef struct fd_suspect_t:
        uint64_t hash, until_ms
        uint32_t deaths

    ctypedef struct fd_part_t:
        uint32_t off, count

    ctypedef struct fd_region_t:
        uint64_t magic
        uint32_t layout_version, index
        uint64_t total_size, geometry_sum
        fd_part_t questions, answers, pending, clients, batch, hits, tcp, series
        uint32_t stop, starts
        uint64_t heartbeat
        uint32_t pid, serving, pending_used, clients_used, tcp_connections, tcp_blocks
        fd_in_hand_t in_hand
        uint64_t coordinator_generation
        fd_ring_t question_ring, answer_ring
        fd_waits_t waits
        uint32_t pending_high, clients_high
        fd_suspect_t suspects[16]
        uint64_t counters[1]

    ctypedef struct fd_pending_t:
        uint32_t state, use
        uint64_t key_hash, asked_ms
        uint16_t group
        uint8_t variant, key_flags
        uint16_t qtype, qclass
        uint8_t qname_len, flags
        uint16_t stale_ms
        uint8_t qname[256]

    ctypedef struct fd_local_t:
        uint8_t address[16]
        uint32_t ifindex

    ctypedef struct fd_question_client_t:
        sockaddr_in6 peer
        fd_local_t local
        uint8_t listener, tcp, edns
        uint16_t udp_size

    uint32_t fd_question_client_off(uint8_t qname_len) noexcept

    ctypedef struct fd_client_t:
        uint32_t state, pending, use, connection_use
        uint64_t arrived_us
        sockaddr_in6 peer
        fd_local_t local
        uint16_t id, flags, udp_size, connection, zone, request_size
        uint8_t listener, edns
        uint8_t case_bits[32]

    ctypedef struct fd_query_t:
        uint64_t key_hash
        uint16_t id, flags, qtype, qclass, udp_size, group
        uint8_t variant, key_flags, edns, qname_len
        uint8_t qname[256]

    ctypedef struct fd_batch_t:
        uint32_t count, listener
        uint8_t status[64]
        mmsghdr messages[64]
        iovec vectors[64]
        sockaddr_in6 peers[64]
        uint8_t control[64][64]
        fd_query_t queries[64]
        uint8_t buffers[64][4160]

    ctypedef struct fd_question_in_hand_t:
        uint64_t hash
        uint32_t qname_len
        uint8_t qname[256]

    ctypedef struct fd_upstream_series_t:
        uint64_t times[8][17]
        uint64_t times_us[8]
        uint64_t health_failures
        uint64_t reused[2]
        uint64_t dialed[2]
        uint64_t whose

    ctypedef struct fd_block_series_t:
        uint64_t entries[2]
        uint64_t evictions[2]
        uint64_t prefetches, drops, template_matches

    ctypedef struct fd_post_t:
        uint64_t magic
        uint32_t layout_version
        uint64_t total_size
        uint32_t stop, starts
        uint64_t heartbeat, generation
        uint32_t pid, serving, inflight_used, swept
        uint64_t entries, entry_octets
        fd_question_in_hand_t in_hand, thread_in_hand
        fd_suspect_t suspects[16]
        uint16_t upstream_wait_ms[32]
        fd_upstream_series_t upstream_series[32]
        fd_block_series_t block_series[128]
        uint64_t counters[1]

    ctypedef struct fd_child_t:
        uint32_t role, index, state, pid, restarts, stuck
        uint64_t started_ms, died_ms
        int32_t last_status

    ctypedef struct fd_board_t:
        uint64_t magic
        uint32_t layout_version, child_count
        uint64_t started_ms
        uint32_t keeper_pid, worker_count
        uint64_t ticks, late_ticks
        uint32_t addresses, addresses_away, address_trips, address_returns
        fd_child_t children[18]

    ctypedef struct fd_listener_t:
        sockaddr_in6 address
        uint16_t group
        uint8_t wildcard, flags
        uint32_t tcp_first_ms, tcp_idle_ms, tcp_queries

    ctypedef struct fd_upstream_t:
        sockaddr_in6 address
        uint8_t force_tcp, max_idle
        uint32_t expire_ms, max_age_ms
        fd_part_t tls, source

    ctypedef struct fd_zone_t:
        uint64_t fingerprint
        uint32_t name_off
        uint16_t next, group, block, flags, edns_max
        uint8_t name_len

    ctypedef struct fd_network_t:
        uint8_t address[16]
        uint8_t octets, bits

    ctypedef struct fd_block_t:
        uint64_t fingerprint
        uint16_t number
        uint8_t caching, uniform_ttl
        uint32_t ttl_min_s, ttl_max_s, negative_min_s, negative_max_s, failure_s, stale_s
        uint32_t capacity[2]
        uint32_t recheck_ms
        uint16_t stale_wait_ms, stale_ttl_s
        fd_part_t steps
        uint16_t flags, slow_limit, prefetch_hits
        uint8_t prefetch_percent
        fd_part_t cached
        fd_part_t disabled[2]
        fd_part_t preferred

    ctypedef struct fd_step_t:
        uint8_t kind, flags
        uint16_t number
        uint32_t argument

    ctypedef struct fd_slow_t:
        fd_part_t program, told

    enum:
        FD_TOLD_MAX

    ctypedef struct fd_forward_t:
        uint32_t name_off, except_off
        uint16_t except_len
        uint8_t name_len, upstream_count
        uint8_t upstreams[16]
        uint16_t number
        uint8_t policy, flags, check_len
        uint32_t next_rcodes, failover_rcodes, max_fails, max_attempts, max_concurrent
        uint32_t read_timeout_ms, check_ms, check_off

    ctypedef struct fd_rule_t:
        uint32_t from_off, to_off
        uint16_t from_len, to_len
        uint32_t from_ "from"
        uint32_t to
        uint8_t match, automatic

    ctypedef struct fd_family_t:
        uint32_t name_off
        fd_part_t except_ "except"
        uint16_t qtype
        uint8_t name_len

    ctypedef struct fd_hosts_t:
        fd_part_t heads, names, zones, through
        uint32_t ttl_s

    ctypedef struct fd_host_t:
        uint32_t name_off, next, data_off
        uint16_t v4_count, v6_count, ptr_count
        uint8_t name_len

    const uint32_t FD_NO_HOST

    ctypedef struct fd_config_t:
        uint64_t magic
        uint32_t layout_version, number
        uint64_t total_size
        uint32_t worker_count, listener_count, upstream_count, zone_depth
        uint32_t tcp_connections, tcp_first_ms, tcp_idle_ms, tcp_slow_ms
        uint32_t edns_max, client_deadline_ms, question_deadline_ms, retry_floor_ms
        uint32_t worker_uid, coordinator_uid, drop_gid
        fd_part_t zone_heads, zones, blocks, series, notes
        fd_listener_t listeners[32]
        fd_upstream_t upstreams[32]

    ctypedef struct fd_log_t:
        uint64_t magic
        uint32_t layout_version, octets
        uint64_t total_size
        fd_ring_t ring

    ctypedef struct fd_log_query_t:
        fd_record_t record
        uint64_t time_ms
        uint32_t duration_us
        uint16_t zone, id
        sockaddr_in6 peer
        fd_local_t local
        uint16_t query_flags, reply_flags, rcode, qtype, qclass, request_size, reply_size, udp_size
        uint8_t listener, tcp, edns, qname_len, entry_kind

    ctypedef struct fd_log_error_t:
        fd_record_t record
        uint64_t time_ms
        uint16_t zone, rcode, qtype, upstream, error, text_len
        uint8_t kind, tcp, qname_len

    ctypedef struct fd_ledger_t:
        uint64_t magic
        uint32_t layout_version
        uint64_t total_size
        uint64_t health_times[6]

    void *fd_at(const void *segment, uint64_t off) noexcept
    const fd_zone_t *fd_zone(const fd_config_t *config, uint32_t number) noexcept
    const fd_block_t *fd_block(const fd_config_t *config, uint32_t number) noexcept
    const fd_part_t *fd_told(const fd_config_t *config, const fd_block_t *block, uint32_t told) noexcept
