# SPDX-License-Identifier: Apache-2.0
# _state.pxd: what the coordinator owns, shared by the modules of its loop; no code.
#
#   coordinator_t ── flights: questions under way, each with its tickets (who waits) and
#       │            attempts (each time it was put to an upstream, by channel and ID)
#       └── upstreams ── channels: UDP sockets and TCP connections, numbered through
#
# Everything refers to everything by 16-bit index, NONE where there is nothing. All memory is
# taken and touched before the loop begins.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport cache_t
from fastdns._compress cimport compress_room_t
from fastdns._log cimport log_t
from fastdns._response cimport response_t
from fastdns._ring cimport ring_t
from fastdns._shm cimport (
    fd_block_t,
    fd_config_t,
    fd_entry_t,
    fd_forward_t,
    fd_post_t,
    fd_question_client_t,
    fd_region_t,
    fd_upstream_t,
    iovec,
    mmsghdr,
)
from fastdns.coordinator._queue cimport slow_t
from fastdns.coordinator._random cimport random_t
from fastdns.coordinator._store cimport store_t
from fastdns.coordinator._timers cimport timers_t

cdef enum:
    NONE = 0xffff
    INFLIGHT_MAX = 16384         # questions under way at most
    SHORT_NAME = 64              # octets of qname that a flight holds itself; longer ones take a place
    LONG_NAME_SHARE = 4          # one place for a long name to so many flights
    CHANGE_SHARE = 8             # one place for what a table made of a question
    CHANGE_RULES = 16            # rules of `rewrite` that may have their part in one answer
    POOL_SOCKETS = 32            # UDP sockets that an upstream's questions are spread over; RFC 5452 s9.2
    UPSTREAM_SOCKETS = 64        # with the replaced ones that still wait for answers
    TCP_CONNECTIONS = 8          # to an upstream, those that end included
    TLS_CONNECTIONS = 2          # likewise, where each costs a handshake
    TCP_FIRST = 64               # an upstream's channels from this number on are its TCP connections
    UPSTREAM_CHANNELS = 72
    BATCH = 64                   # messages in one sendmmsg or recvmmsg
    QUERY_ROOM = 352             # header 12, qname 255, type and class 4, OPT 11 and its options, rounded up
    CHANGE_BACK = 4              # dns64, rewrite and two templates
    CHANGE_OPTIONS = 64          # octets
    DEPTH_MAX = 8                # questions that lead to one another: a template's CNAME, and so on
    RX_ROOM = 1536               # a UDP response: EDNS_PAYLOAD and some more, for those that don't ask
    TCP_PREFIX = 2               # octets of length before each message; RFC 1035 s4.2.2
    TCP_RX_ROOM = 80 * 1024      # taken from the kernel at once: the largest message and some more
    TCP_TX_ROOM = 16 * 1024      # given to the kernel at once: at least 46 of the largest queries
    TCP_PARTS = 16               # messages of which a part has come, on all connections together
    TCP_PART_ROOM = 65 * 1024    # the largest message and its prefix
    WORKERS = 16                 # FD_MAX_WORKERS
    NOBODY = 0xff                # in place of a worker: a refresh, for the cache alone
    UPSTREAMS = 32               # FD_MAX_UPSTREAMS
    LOOKS = 32                   # looks for ancestors that don't exist, at once

cdef enum:                       # flight_t.state
    FLIGHT_USED = 1
    FLIGHT_LISTED = 2            # others may join it: it can be found by its key
    FLIGHT_TCP = 4               # the answer did not fit UDP
    FLIGHT_NO_EDNS = 8           # an upstream didn't understand the OPT; RFC 6891 s7
    FLIGHT_REFUSED = 16          # an upstream answered SERVFAIL or the like; another was asked
    FLIGHT_ORPHAN = 64           # on the list of those whose channel failed
    FLIGHT_SLOW = 128            # the Python thread has it
    FLIGHT_LOOK = 256            # a question of our own: a look (_cut.pyx) waits for its end
    FLIGHT_AHEAD = 512           # begun for a name whose answer is still good (_ahead.pyx)
    FLIGHT_CHECK = 1024          # a question of our own: whether an upstream answers (_health.pyx)
    FLIGHT_COUNTED = 2048        # one of those that its forward's `max_concurrent` bounds
    FLIGHT_MAY_HEDGE = 4096      # its timer is that of the hedge: no other upstream was asked yet
    FLIGHT_LATE = 8192           # its first upstream took longer than 19 of 20 do; that was noted

cdef enum:                       # channel_t.failed
    CHANNEL_REFUSED = 1          # nobody there: port unreachable, connection refused, no route
    CHANNEL_BROKEN = 2           # a TCP connection that never answered was lost
    CHANNEL_LOST = 3             # one that had answered: that says nothing of its upstream

ctypedef enum ask_rc:            # what became of a question put to an upstream
    ASK_OK = 0
    ASK_LATER = 1                # no socket, no room: another time
    ASK_NOWHERE = 2              # there is no way to that address, and nobody at it

cdef enum:                       # connection_t.state
    TCP_CLOSED = 0
    TCP_CONNECTING = 1
    TCP_OPEN = 2

ctypedef struct question_t:      # what is asked; the cache's full key but for the qname
    uint64_t key_hash
    uint16_t group
    uint8_t variant
    uint8_t key_flags            # FD_KEY_*
    uint16_t qtype
    uint16_t qclass
    uint8_t qname_len
    uint8_t flags                # FD_Q_*

ctypedef struct flight_t:        # a question under way
    question_t question
    uint64_t deadline_ms         # the question's, for all its attempts
    const fd_block_t *block      # of the zone it fell into
    const fd_forward_t *forward  # the step whose upstreams are asked; NULL: none took it yet
    uint64_t order               # 4 bits each, the first in the lowest: places among the forward's upstreams
    uint32_t wait_ms             # silence before it is asked again
    uint16_t zone                # number
    uint16_t step                # of the block: where its walk goes on
    uint16_t next                # of the same hash, or of the free list
    uint16_t attempts            # newest first
    uint16_t attempt_count
    uint16_t waiting             # bit i: worker i waits, with tickets[i]
    uint32_t refused             # bit i: nobody is at upstream i
    uint16_t long_name           # place of a qname over SHORT_NAME octets
    uint16_t change              # place of what a table made of the question
    uint16_t parents             # first of the flights that wait for this one's answer
    uint8_t upstream             # asked last
    uint8_t tries                # at that upstream, in a row
    uint8_t failures             # channels that failed under it and said something of their upstream
    uint8_t losses               # connections that were lost under it and said nothing of theirs
    uint8_t plugin               # FD_PLUGIN_*: what makes the answer
    uint8_t failed_by            # upstreams that were given up
    uint16_t state               # FLIGHT_*
    uint8_t qname[SHORT_NAME]

ctypedef struct change_t:        # what a table made of a flight's question, and who asked it
    question_t question          # what is asked now
    uint16_t next                # of the free list
    uint8_t rule_count
    uint8_t has_client
    uint8_t rewritten            # the question is not the client's own, or its answer is changed
    uint8_t restored             # what the loop's rules did is undone already
    uint16_t rules[CHANGE_RULES] # steps that have their part in the answer, in order
    fd_question_client_t client
    # the Python thread's share (_slow.pyx)
    uint32_t serial              # of the job that the flight waits for
    uint16_t child               # the flight whose answer it waits for
    uint16_t sibling             # next of those that wait for the same
    uint8_t depth                # of questions that led to one another
    uint8_t back_count
    uint16_t back[CHANGE_BACK]   # steps of the thread that want the answer, the innermost last
    uint16_t options_len
    uint8_t marks                # FD_ENTRY_* of the answer
    uint16_t told                # step whose EDNS option goes out with the answer, from 1; 0: none
    uint8_t options[CHANGE_OPTIONS]   # EDNS options for the query upstream
    uint8_t qname[256]

ctypedef struct attempt_t:       # a question put to an upstream and not answered
    uint32_t sent_us             # low 32 bits of the clock
    uint16_t flight
    uint16_t channel
    uint16_t id                  # as on the wire, not swapped
    uint16_t next                # of the same hash, or of the free list
    uint16_t sibling             # older attempt of the same flight
    uint16_t channel_next
    uint16_t channel_prev        # NONE: first of its channel

ctypedef struct probe_t:         # an upstream of a block with `loop` (_probe.pyx)
    uint64_t due_ms
    fd_forward_t forward         # of that upstream alone
    uint16_t zone                # the block's first
    uint16_t block
    uint8_t upstream
    uint8_t state
    uint8_t qname_len
    uint8_t qname[255]

ctypedef struct look_t:          # for the ancestor of a name that does not exist (_cut.pyx)
    question_t question          # that was answered NXDOMAIN
    uint64_t until_ms
    uint16_t zone
    uint16_t asked               # the last ancestor that was asked for, NONE: none yet
    uint8_t qname[256]

ctypedef struct channel_t:       # a UDP socket, or a TCP connection
    int fd                       # -1: closed
    uint16_t attempts            # newest first, by attempt_t.channel_next
    uint16_t oldest
    uint16_t outstanding         # how many
    uint16_t unsent              # TCP: the oldest that was not yet written; by channel_prev to the newest
    uint16_t sent                # questions since it was opened, 65,535 at most
    uint8_t failed               # CHANNEL_*: its questions have to go elsewhere
    uint8_t draining             # replaced; closed when nothing waits on it any more
    uint64_t opened_ms

ctypedef struct udp_batch_t:     # queries to one upstream that go out with one sendmmsg
    uint16_t channel
    uint16_t count
    mmsghdr messages[BATCH]
    iovec vectors[BATCH]
    uint8_t queries[BATCH][QUERY_ROOM]

ctypedef struct connection_t:    # what a TCP connection has beside its channel
    uint8_t state                # TCP_*
    uint8_t wants_write          # EPOLLOUT is asked for
    uint8_t answered             # octets have come
    uint8_t stalled              # a question on it was asked again elsewhere, and no octet has come since
    uint16_t part                # place of the part of a message that has come, NONE: nothing is kept
    uint16_t rest_len            # octets of a query that the kernel took only the beginning of
    uint32_t part_len
    uint64_t active_ms           # last octet received, or first question after a pause
    uint64_t retire_ms           # it gets no question from then on
    uint8_t rest[354]            # TCP_PREFIX + QUERY_ROOM

ctypedef struct tcp_rx_t:        # where the octets of TCP connections arrive
    uint8_t *data                # what was received last stands here, NULL: nothing was
    uint32_t start               # data[start:end] is not yet taken
    uint32_t end
    uint32_t free_parts          # bit i: place i is free
    uint8_t *room                # TCP_RX_ROOM
    uint8_t *parts               # TCP_PARTS of TCP_PART_ROOM

ctypedef struct rtt_t:           # an estimate of round-trip times; RFC 6298 s2
    uint32_t srtt_us             # 0: nothing measured yet
    uint32_t rttvar_us
    uint32_t late_us             # 19 of 20 answers come within this

ctypedef struct check_t:         # of an upstream that failed (_health.pyx)
    uint64_t due_ms
    fd_forward_t forward         # of that upstream alone
    const fd_forward_t *options  # of the forward whose question failed; NULL: it was never checked
    uint64_t since_ms            # when the first check since its last answer was asked; 0: none was
    uint16_t zone                # of that question
    uint8_t state
    uint32_t fails               # in a row

ctypedef struct upstream_t:
    const fd_upstream_t *config
    rtt_t udp
    rtt_t tcp                    # behind earlier questions of the connection, too: it says what is slow
    uint64_t owes_ms             # when the first question since its last answer was put to it; 0: none was
    uint32_t silences            # in a row, without an answer in between; GONE: nobody is there
    uint64_t probe_ms            # when one more question may be put to it though it is silent
    check_t check
    int error                    # the kernel's last word on it
    uint16_t first_channel       # its channels are UPSTREAM_CHANNELS from here
    uint16_t pool[POOL_SOCKETS]  # channels, NONE: not opened yet
    udp_batch_t *batch
    uint16_t current             # TCP: the channel that this round's questions go to,
    uint16_t current_room        # for so many more
    uint8_t unsent               # TCP: bit i: connection i has something to send

ctypedef struct choice_t:        # what is kept of a `forward` between its questions
    uint32_t turn                # round_robin: questions so far
    uint32_t under_way           # questions that `max_concurrent` counts
    uint32_t credit              # for hedges, in HEDGE_SHAREths
    uint64_t compare_ms          # when those that are passed over are checked again

ctypedef struct udp_rx_t:        # where UDP responses arrive
    mmsghdr messages[BATCH]
    iovec vectors[BATCH]
    uint8_t buffers[BATCH][RX_ROOM]

ctypedef struct worker_link_t:   # one worker, as the coordinator sees it
    fd_region_t *region
    ring_t questions
    ring_t answers
    int wake

ctypedef struct coordinator_t:
    slow_t *slow                 # the queues to the Python thread, NULL: no step needs it
    const fd_config_t *config
    fd_post_t *post
    uint64_t *counters           # in the post
    log_t log                    # lines of `errors`
    uint64_t now_us              # CLOCK_BOOTTIME, read once a round
    uint64_t now_ms
    uint64_t generation
    cache_t cache
    store_t *store
    random_t random
    timers_t timers
    int epoll
    int wake
    uint32_t worker_count
    worker_link_t workers[WORKERS]
    uint32_t dirty               # bit i: worker i got records and was not woken yet
    uint32_t suspected           # keys that coordinators died on, those in quarantine among them
    uint32_t quarantined         # keys in quarantine, at most
    # in flight (_inflight.pyx)
    uint32_t capacity
    uint32_t inflight_used
    uint16_t free_flights
    uint16_t free_attempts
    uint16_t free_long_names
    uint16_t free_changes
    uint32_t extra_attempts      # beyond the first of each flight; `capacity` at most
    uint32_t flight_mask         # buckets - 1
    uint32_t attempt_mask
    flight_t *flights
    uint64_t *tickets            # worker_count of each flight
    attempt_t *attempts
    uint16_t *flight_buckets
    uint16_t *attempt_buckets
    uint8_t *long_names          # 256 octets each; a free one begins with the next free one's number
    change_t *changes
    uint16_t *orphans            # room for one pass over a failed channel
    uint64_t attempt_secret      # of the attempts' hash
    # upstream
    uint32_t upstream_count
    uint8_t channel_failed       # some channel has `failed` set
    uint32_t looping[128]        # of each block, bit i: upstream i sends its questions back here
    uint32_t probe_count
    probe_t *probes
    look_t *looks                # NULL: no block cuts
    uint32_t look_count
    uint32_t learned             # questions for them in the second that began at
    uint64_t learn_second_ms
    uint8_t looks_due            # one of them can go on
    uint32_t ahead_count         # flights with FLIGHT_AHEAD
    uint32_t ahead_shard         # where the look through the cache goes on, and when
    uint32_t ahead_slot
    uint64_t ahead_due_ms
    uint64_t probe_due_ms        # the next that is due
    upstream_t upstreams[UPSTREAMS]
    choice_t *choices            # of each forward, by its number
    uint32_t checking            # bit i: upstream i is being checked
    uint64_t check_due_ms        # the next check that is due
    uint32_t checks_asked        # of the flights; nobody waits for these
    uint32_t awaited             # bit i: stale marks, or failures, end when silent upstream i is back
    uint64_t back_ms             # when one came back last
    channel_t *channels
    udp_rx_t *udp_rx
    connection_t *connections    # TCP_CONNECTIONS of each upstream
    tcp_rx_t tcp_rx
    uint8_t *tcp_tx              # TCP_TX_ROOM: queries on their way to the kernel
    int tls_requests             # pipe to the TLS thread (_tls.pyx), -1: no upstream needs it
    # judging
    response_t *response
    uint8_t *made                # MESSAGE_MAX octets: an answer that a step makes
    uint32_t made_len
    uint8_t *restored            # MESSAGE_MAX octets: an answer to the client's own question
    compress_room_t *room
    fd_entry_t *entry            # FD_ENTRY_MAX octets, 8-aligned: the answer being made
