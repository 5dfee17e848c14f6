# SPDX-License-Identifier: Apache-2.0
"""A worker that has nothing but TCP, for the tests: they own its clock and answer its queries."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastdns._shm cimport fd_config_t, fd_load32, fd_load64, fd_region_t, iovec
from fastdns._stats cimport (
    FD_C_replies_tcp,
    FD_C_send_failed,
    FD_C_tcp_accept_failed,
    FD_C_tcp_accepted,
    FD_C_tcp_buffers_full,
    FD_C_tcp_closed_bad,
    FD_C_tcp_closed_queries,
    FD_C_tcp_closed_cap,
    FD_C_tcp_closed_idle,
    FD_C_tcp_closed_slow,
    FD_COUNTERS,
)
from fastdns.worker._state cimport TCP_REPLY_ROOM, origin_t, worker_t
from fastdns.worker._tcp cimport (
    tcp_close,
    tcp_drain,
    tcp_event,
    tcp_open,
    tcp_reply,
    tcp_tick,
    tcp_waits,
)
from fastdns.worker._tcp_pool cimport (
    TCP_BLOCK,
    chain_append,
    chain_copy,
    chain_init,
    chain_t,
    chain_take,
    chain_vectors,
    pool_close,
    pool_open,
    pool_t,
)
from fastdns.worker._tcp_stream cimport (
    POOL_MIN,
    READ_BUFFER as _READ_BUFFER,
    UNSENT_MAX as _UNSENT_MAX,
    WAITING_MAX as _WAITING_MAX,
)
from fastdns.worker._tcp_table cimport PHASES, tcp_state

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_wait(int epoll, epoll_event *events, int most, int timeout)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

BLOCK = TCP_BLOCK
READ_BUFFER = _READ_BUFFER
UNSENT_MAX = _UNSENT_MAX
WAITING_MAX = _WAITING_MAX
REGION_PART_MIN = READ_BUFFER + POOL_MIN
PHASE_NAMES = ("free", "first", "idle", "slow", "waiting")

#: What the tests' server does with a message, by its third octet.
ECHO, WAIT, DROP, LARGE, ANSWER_OLDEST = range(5)

cdef enum:
    _ECHO = 0                    # reply with the message itself
    _WAIT = 1                    # the test replies, or forgets it
    _DROP = 2                    # no reply
    _LARGE = 3                   # reply with as many octets as octets 4 and 5 say
    # reply to the oldest that waits from within, with as many octets as its own 4 and 5 say, at
    # least itself; then echo
    _ANSWER_OLDEST = 4
    PLACES = 8192
    KEPT = 64                    # octets kept of a message that waits

cdef struct place_t:
    uint16_t connection
    uint32_t use
    uint32_t len
    uint8_t message[KEPT]

cdef struct server_t:
    worker_t worker              # first: the serving function gets a pointer to it
    fd_config_t config
    place_t *places
    uint32_t first
    uint32_t count
    uint32_t messages
    uint8_t *late                # TCP_REPLY_ROOM octets
    uint32_t misplaced           # messages that did not lie in the region's TCP part


cdef uint32_t _serve(worker_t *worker, const uint8_t *msg, uint32_t msg_len,
                     const origin_t *origin, uint8_t *out) noexcept nogil:
    cdef server_t *server = <server_t *>worker
    cdef place_t *place
    cdef uint32_t i, large
    cdef const uint8_t *part = <const uint8_t *>worker.region + worker.region.tcp.off
    server.messages += 1
    if msg < part or msg + msg_len > part + worker.region.tcp.count:
        server.misplaced += 1
    if msg[2] == _DROP:
        return 0
    if msg[2] == _WAIT:
        place = &server.places[(server.first + server.count) % PLACES]
        server.count += 1
        place.connection = origin.connection
        place.use = origin.connection_use
        place.len = min(msg_len, <uint32_t>KEPT)
        memcpy(place.message, msg, place.len)
        tcp_waits(worker, origin.connection, origin.connection_use)
        return 0
    if msg[2] == _LARGE:
        large = (<uint32_t>msg[4] << 8) | msg[5]
        memcpy(out, msg, 12)
        for i in range(12, large):
            out[i] = <uint8_t>(i ^ msg[1])
        return large
    if msg[2] == _ANSWER_OLDEST and server.count:
        place = &server.places[server.first % PLACES]
        server.first += 1
        server.count -= 1
        memcpy(server.late + 2, place.message, place.len)
        large = max(place.len, (<uint32_t>place.message[4] << 8) | place.message[5])
        tcp_reply(worker, place.connection, place.use, server.late, large)
    memcpy(out, msg, msg_len)
    return msg_len


cdef class Server:
    """Accepts on ``listeners`` (descriptors that stay the caller's); ``now`` is its clock in ms."""

    cdef server_t *s

    def __cinit__(self, listeners, uint32_t capacity=1024, uint32_t pool=446 * 1024, uint32_t first_ms=3000,
                  uint32_t idle_ms=10000, uint32_t slow_ms=5000, uint32_t starts=0):
        cdef size_t head = (sizeof(fd_region_t) + FD_COUNTERS * 8 + 63) // 64 * 64
        cdef int i
        self.s = <server_t *>calloc(1, sizeof(server_t))
        self.s.places = <place_t *>calloc(PLACES, sizeof(place_t))
        self.s.late = <uint8_t *>calloc(1, TCP_REPLY_ROOM)
        self.s.worker.region = <fd_region_t *>calloc(1, head + READ_BUFFER + pool)
        self.s.worker.region.tcp.off = <uint32_t>head
        self.s.worker.region.tcp.count = READ_BUFFER + pool
        self.s.worker.region.starts = starts
        self.s.worker.counters = self.s.worker.region.counters
        self.s.worker.config = &self.s.config
        self.s.worker.epoll = epoll_create1(0)
        self.s.worker.now_ms = 1_000_000
        self.s.config.listener_count = len(listeners)
        self.s.config.tcp_connections = capacity
        self.s.config.tcp_first_ms = first_ms
        self.s.config.tcp_idle_ms = idle_ms
        self.s.config.tcp_slow_ms = slow_ms
        for i, fd in enumerate(listeners):
            self.s.config.listeners[i].tcp_first_ms = first_ms
            self.s.config.listeners[i].tcp_idle_ms = idle_ms
            self.s.worker.tcp_fds[i] = fd
        if tcp_open(&self.s.worker, _serve) == NULL:
            raise MemoryError("tcp_open")

    def allow(self, int listener, uint32_t first_ms, uint32_t idle_ms):
        """Other times for the connections of a listener, no shorter than those given at first."""
        self.s.config.listeners[listener].tcp_first_ms = first_ms
        self.s.config.listeners[listener].tcp_idle_ms = idle_ms

    def limit(self, int listener, uint32_t queries):
        """So many on each of a listener's connections."""
        self.s.config.listeners[listener].tcp_queries = queries

    def __dealloc__(self):
        if self.s == NULL:
            return
        tcp_close(&self.s.worker)
        close(self.s.worker.epoll)
        free(self.s.worker.region)
        free(self.s.places)
        free(self.s.late)
        free(self.s)

    @property
    def now(self) -> int:
        return self.s.worker.now_ms

    @now.setter
    def now(self, uint64_t value):
        self.s.worker.now_ms = value

    def round(self, int timeout_ms=0) -> int:
        """One turn of the loop. Returns the number of events."""
        cdef epoll_event events[64]
        cdef int n, i
        with nogil:
            n = epoll_wait(self.s.worker.epoll, events, 64, timeout_ms)
            for i in range(n):
                tcp_event(&self.s.worker, events[i].data.u64, events[i].events)
        return n

    def stale_event(self, uint16_t connection, uint32_t use, uint32_t events) -> None:
        """An event as epoll would have given it for that use of a connection."""
        tcp_event(&self.s.worker, (<uint64_t>3 << 32) | ((use & 0xffff) << 16) | connection, events)

    def tick(self) -> int:
        return tcp_tick(&self.s.worker)

    def drain(self) -> int:
        return tcp_drain(&self.s.worker)

    def waiting(self):
        """(connection, use, message) of what waits, taken out of the list."""
        cdef place_t *place
        found = []
        while self.s.count:
            place = &self.s.places[self.s.first % PLACES]
            found.append((place.connection, place.use, place.message[:place.len]))
            self.s.first += 1
            self.s.count -= 1
        return found

    def reply(self, uint16_t connection, uint32_t use, const uint8_t[::1] message) -> None:
        memcpy(self.s.late + 2, &message[0], message.shape[0])
        tcp_reply(&self.s.worker, connection, use, self.s.late, <uint32_t>message.shape[0])

    def phases(self) -> dict[str, int]:
        """How many connections are in each phase; the queues are checked against their members."""
        cdef int phase
        cdef uint16_t at, before
        counts = {}
        for phase in range(PHASES):
            counts[PHASE_NAMES[phase]] = 0
            before, at = 0xffff, tcp_state(&self.s.worker).queues[phase].head
            since = 0
            while at != 0xffff:
                connection = tcp_state(&self.s.worker).connections[at]
                assert connection.phase == phase and connection.prev == before
                assert phase == 0 or connection.since >= since, "a queue is ordered by time"
                since = connection.since
                before, at = at, connection.next
                counts[PHASE_NAMES[phase]] += 1
            assert tcp_state(&self.s.worker).queues[phase].tail == before
        return counts

    @property
    def open(self) -> int:
        """Connections; the gauge in the region says the same."""
        assert fd_load32(&self.s.worker.region.tcp_connections) == tcp_state(&self.s.worker).used
        return tcp_state(&self.s.worker).used

    @property
    def blocks_used(self) -> int:
        return tcp_state(&self.s.worker).pool.count - tcp_state(&self.s.worker).pool.free_count

    @property
    def messages(self) -> int:
        """Messages served; each lay in the region."""
        assert self.s.misplaced == 0
        return self.s.messages

    def count(self, str name) -> int:
        return fd_load64(&self.s.worker.counters[_COUNTERS[name]])


_COUNTERS = {
    "accepted": FD_C_tcp_accepted,
    "accept_failed": FD_C_tcp_accept_failed,
    "buffers_full": FD_C_tcp_buffers_full,
    "bad": FD_C_tcp_closed_bad,
    "queries": FD_C_tcp_closed_queries,
    "cap": FD_C_tcp_closed_cap,
    "idle": FD_C_tcp_closed_idle,
    "slow": FD_C_tcp_closed_slow,
    "send_failed": FD_C_send_failed,
    "replies": FD_C_replies_tcp,
}


cdef class Pool:
    """A pool of ``blocks`` blocks and its chains, numbered from 0."""

    cdef pool_t pool
    cdef uint8_t *memory
    cdef chain_t chains[8]

    def __cinit__(self, uint32_t blocks):
        cdef int i
        self.memory = <uint8_t *>calloc(blocks + 1, TCP_BLOCK)
        if not pool_open(&self.pool, self.memory, blocks * TCP_BLOCK):
            raise MemoryError("pool_open")
        for i in range(8):
            chain_init(&self.chains[i])

    def __dealloc__(self):
        pool_close(&self.pool)
        free(self.memory)

    def append(self, int chain, const uint8_t[::1] data) -> bool:
        return chain_append(&self.pool, &self.chains[chain], &data[0] if data.shape[0] else NULL,
                            <uint32_t>data.shape[0])

    def take(self, int chain, uint32_t n) -> None:
        assert n <= self.chains[chain].len
        chain_take(&self.pool, &self.chains[chain], n)

    def content(self, int chain) -> bytes:
        """The octets, read both ways that the module has."""
        cdef iovec vectors[256]
        cdef uint32_t i, n
        cdef uint8_t *out = <uint8_t *>malloc(self.chains[chain].len + 1)
        chain_copy(&self.pool, &self.chains[chain], out)
        copied = out[:self.chains[chain].len]
        free(out)
        memset(vectors, 0, sizeof(vectors))
        n = chain_vectors(&self.pool, &self.chains[chain], vectors, 256)
        assert b"".join([(<uint8_t *>vectors[i].iov_base)[:vectors[i].iov_len] for i in range(n)]) == copied
        return copied

    @property
    def free_blocks(self) -> int:
        return self.pool.free_count
