# SPDX-License-Identifier: Apache-2.0
"""The generator's loop: send queries, match replies, count. Its typed interface is fastdns.loadgen.

It must cost less per query than the server that it loads, on one core beside it. So: connected sockets (no
route look-up a packet), batches both ways, one clock reading a batch, nothing allocated after set-up, and
while the server has plenty in its queue the loop naps instead of collecting replies one by one. A nap is a
plain sleep, not poll: a poller would add the cost of waking it to the server's account.
"""

from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, ENOBUFS, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastdns.loadgen._kernel cimport (
    CLOCK_MONOTONIC,
    MSG_DONTWAIT,
    POLLIN,
    PR_GET_TIMERSLACK,
    PR_SET_TIMERSLACK,
    clock_gettime,
    iovec,
    mmsghdr,
    nanosleep,
    pollfd,
    ppoll,
    prctl,
    recvmmsg,
    sendmmsg,
    timespec,
)

cdef enum:
    BATCH = 64                   # messages a system call, as the servers under test use
    HEADER_LEN = 12              # octets; RFC 1035 s4.1.1
    QUERY_STRIDE = 512           # octets kept for one query of a batch
    QUERY_MAX = 320              # octets: a name's 255, and header, question's rest and OPT
    REPLY_STRIDE = 4096 + 64     # one line more than a page: else all headers share an L1 set
    REPLY_MAX = 4096             # octets read of a reply; longer ones are counted by their head
    SERIAL_LEN = 8               # base-32 digits of a unique name's serial: 2**40 names a run
    SERIAL_OFF = 21              # header, label length, 8 octets of the run's own prefix
    NAP_NS = 20_000              # ns; at 300,000 replies/s six arrive meanwhile
    EXPIRE_NS = 20_000_000       # ns between two looks for queries without a reply
    HIST_SUB_BITS = 6            # 64 steps an octave: 1.6 % resolution
    HIST_SUB = 64
    HIST_LEN = 64 * 40           # up to 2**45 ns, above any timeout

cdef enum Wait:
    WAIT_POLL = 0                # sleep in ppoll until a reply or the next query's time: exact times
    WAIT_NAP = 1                 # sleep NAP_NS while little came: cheap, for a saturated server
    WAIT_SPIN = 2                # never sleep

cdef struct Slot:
    int64_t sent_ns              # CLOCK_MONOTONIC; 0: free
    uint64_t query               # number of the prepared query, or a unique name's serial
    uint16_t id                  # as sent
    uint16_t expired_id          # of the last query given up here: its reply is late, not stray
    uint16_t has_expired

cdef struct Client:
    int fd
    uint32_t slots_free
    uint16_t *free_slots         # stack
    Slot *slots

cdef struct Counters:
    uint64_t sent
    uint64_t answered
    uint64_t timeouts
    uint64_t late
    uint64_t stray
    uint64_t mismatched
    uint64_t truncated
    uint64_t refused
    uint64_t send_errors
    uint64_t held_back
    uint64_t octets_in
    uint64_t latency_sum_ns
    int64_t latency_min_ns
    int64_t latency_max_ns
    int64_t first_sent_ns
    int64_t last_answer_ns
    uint64_t rcodes[16]


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <int64_t>ts.tv_sec * 1_000_000_000 + ts.tv_nsec


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    # xorshift64*: fast and even; nothing here has to be secret. The state is never 0.
    cdef uint64_t x = state[0]
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    state[0] = x
    return x * <uint64_t>0x2545F4914F6CDD1D


cdef inline uint16_t scramble(uint16_t value, uint32_t key) noexcept nogil:
    # A keyed permutation of 16 bits (four Feistel rounds), undone by unscramble. An ID holds its slot's
    # number and some random bits; scrambled, every bit of it looks random, so that a server that spreads by
    # ID sees an even spread.
    cdef uint32_t left = value >> 8, right = value & 0xFF, i, swap
    for i in range(4):
        swap = right
        right = left ^ ((((right + key) * (0x9E37 + 2 * i * 0x1F35)) >> 7) & 0xFF)
        left = swap
    return <uint16_t>(left << 8 | right)


cdef inline uint16_t unscramble(uint16_t value, uint32_t key) noexcept nogil:
    cdef uint32_t left = value >> 8, right = value & 0xFF, i, swap
    for i in range(4):
        swap = left
        left = right ^ ((((left + key) * (0x9E37 + 2 * (3 - i) * 0x1F35)) >> 7) & 0xFF)
        right = swap
    return <uint16_t>(left << 8 | right)


cdef inline uint32_t histogram_index(uint64_t value) noexcept nogil:
    # Log-linear: below HIST_SUB exact, above 64 steps to each doubling.
    cdef uint32_t shift = 0
    while value >= 2 * HIST_SUB:
        value >>= 1
        shift += 1
    cdef uint32_t index = shift * HIST_SUB + <uint32_t>value
    return index if index < <uint32_t>HIST_LEN else <uint32_t>(HIST_LEN - 1)


cdef inline void put_serial(uint8_t *out, uint64_t serial) noexcept nogil:
    # Base 32 with DNS's letters and digits (RFC 4648 s7's alphabet), most significant first.
    cdef int i
    cdef uint8_t digit
    for i in range(SERIAL_LEN):
        digit = <uint8_t>(serial >> (5 * (SERIAL_LEN - 1 - i))) & 31
        out[i] = (48 + digit) if digit < 10 else (97 - 10 + digit)


def histogram_bounds(int index):
    """(lowest, highest) ns that fall into bucket `index`.

    The inverse of the loop's arithmetic, for reading percentiles.
    """
    if index < 2 * HIST_SUB:
        return index, index
    shift = index // HIST_SUB - 1
    low = (index - shift * HIST_SUB) << shift
    return low, low + (1 << shift) - 1


cdef class Generator:
    """One run of load over connected, non-blocking UDP sockets.

    fds            the sockets; they stay the caller's
    queries        prepared messages, ID 0; each at most 320 octets
    unique         the one query is a pattern: its first label (16 octets) is the run's prefix and a serial,
                   new for each query
    window         queries under way at most, all sockets together
    rate           queries/s; 0: as fast as the window allows
    count          queries in all; 0: until the caller stops stepping
    """

    cdef Client *clients
    cdef uint32_t n_clients
    cdef uint32_t slots_each
    cdef uint32_t slot_bits
    cdef uint8_t *queries
    cdef uint32_t *query_off
    cdef uint32_t *question_len
    cdef uint64_t n_queries
    cdef bint unique
    cdef bint random_order
    cdef bint verify
    cdef Wait wait
    cdef double rate
    cdef uint64_t count
    cdef int64_t timeout_ns
    cdef uint64_t position
    cdef uint64_t random_state
    cdef uint32_t id_key
    cdef uint32_t turn
    cdef uint32_t in_flight
    cdef uint32_t wake_at
    cdef int64_t start_ns
    cdef int64_t next_expiry_ns
    cdef uint64_t histogram[HIST_LEN]
    cdef Counters counters
    cdef mmsghdr out[BATCH]
    cdef iovec out_iov[BATCH]
    cdef mmsghdr arrived[BATCH]
    cdef iovec arrived_iov[BATCH]
    cdef uint8_t *out_buffers
    cdef uint8_t *arrived_buffers
    cdef pollfd *poll_fds

    def __cinit__(self, fds, queries, *, bint unique=False, bint random_order=False, bint verify=True,
                  int wait=0, uint32_t window=1024, double rate=0.0, uint64_t count=0, double timeout_s=1.0,
                  uint64_t seed=1):
        cdef uint32_t i, j
        cdef uint64_t n, off = 0
        cdef bytes message
        cdef const uint8_t *source
        self.n_clients = <uint32_t>len(fds)
        self.n_queries = <uint64_t>len(queries)
        if not self.n_clients or not self.n_queries or not window:
            raise ValueError("at least one socket, one query and a window of one")
        self.slots_each = (window + self.n_clients - 1) // self.n_clients
        if self.slots_each > 8192:
            # The ID has 16 bits; fewer than three random ones would let a late reply pass for the next
            # query's.
            raise ValueError(f"window {window} needs more than {self.n_clients} sockets: at most 8192 each")
        self.slot_bits = (self.slots_each - 1).bit_length() if self.slots_each > 1 else 0
        self.unique = unique
        self.random_order = random_order
        self.verify = verify
        self.wait = <Wait>wait
        self.rate = rate
        self.count = count
        self.timeout_ns = <int64_t>(timeout_s * 1e9)
        self.random_state = seed | 1
        self.id_key = <uint32_t>(next_random(&self.random_state) & 0xFFFF)
        # Worth a pass over the sockets: a full batch, or a quarter of a small window.
        self.wake_at = min(<uint32_t>BATCH, max(<uint32_t>1, window // 4))

        self.clients = <Client *>calloc(self.n_clients, sizeof(Client))
        self.poll_fds = <pollfd *>calloc(self.n_clients, sizeof(pollfd))
        self.query_off = <uint32_t *>calloc(self.n_queries + 1, sizeof(uint32_t))
        self.question_len = <uint32_t *>calloc(self.n_queries, sizeof(uint32_t))
        self.queries = <uint8_t *>malloc(sum(len(message) for message in queries))
        self.out_buffers = <uint8_t *>calloc(BATCH, QUERY_STRIDE)
        self.arrived_buffers = <uint8_t *>calloc(BATCH, REPLY_STRIDE)
        if not (self.clients and self.poll_fds and self.query_off and self.question_len and self.queries
                and self.out_buffers and self.arrived_buffers):
            raise MemoryError()
        for i in range(self.n_clients):
            self.clients[i].fd = fds[i]
            self.poll_fds[i].fd = fds[i]
            self.poll_fds[i].events = POLLIN
            self.clients[i].slots = <Slot *>calloc(self.slots_each, sizeof(Slot))
            self.clients[i].free_slots = <uint16_t *>calloc(self.slots_each, sizeof(uint16_t))
            if not (self.clients[i].slots and self.clients[i].free_slots):
                raise MemoryError()
            self.clients[i].slots_free = self.slots_each
            for j in range(self.slots_each):
                self.clients[i].free_slots[j] = <uint16_t>j
        for n in range(self.n_queries):
            message = queries[n]
            if not HEADER_LEN + 5 <= len(message) <= QUERY_MAX:
                raise ValueError(f"query {n} has {len(message)} octets")
            source = message
            memcpy(self.queries + off, source, len(message))
            self.query_off[n] = <uint32_t>off
            self.question_len[n] = question_length(source, <uint32_t>len(message))
            if not self.question_len[n]:
                raise ValueError(f"query {n} has no whole question")
            off += <uint64_t>len(message)
        self.query_off[self.n_queries] = <uint32_t>off
        if unique and (self.n_queries != 1 or self.queries[HEADER_LEN] != 16):
            raise ValueError("a unique run takes one query whose first label has 16 octets")
        memset(self.histogram, 0, sizeof(self.histogram))
        memset(&self.counters, 0, sizeof(self.counters))
        for i in range(<uint32_t>BATCH):
            self.out_iov[i].iov_base = self.out_buffers + i * QUERY_STRIDE
            self.out[i].msg_hdr.msg_iov = &self.out_iov[i]
            self.out[i].msg_hdr.msg_iovlen = 1
            self.arrived_iov[i].iov_base = self.arrived_buffers + i * REPLY_STRIDE
            self.arrived_iov[i].iov_len = REPLY_MAX
            self.arrived[i].msg_hdr.msg_iov = &self.arrived_iov[i]
            self.arrived[i].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        cdef uint32_t i
        if self.clients:
            for i in range(self.n_clients):
                free(self.clients[i].slots)
                free(self.clients[i].free_slots)
        free(self.clients)
        free(self.poll_fds)
        free(self.queries)
        free(self.query_off)
        free(self.question_len)
        free(self.out_buffers)
        free(self.arrived_buffers)

    def step(self, double seconds, bint sending=True):
        """Run for `seconds`, or until `count` queries are sent and none is under way; False then.

        With `sending` off it only waits for what is under way. Signals are the caller's, between two steps.
        """
        cdef int64_t end_ns
        cdef bint more
        cdef int slack
        with nogil:
            # A nap must not grow to the default slack of 50 us. The thread is the caller's, so the slack is
            # given back.
            slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
            prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)
            end_ns = now_ns() + <int64_t>(seconds * 1e9)
            more = self._run(end_ns, sending)
            prctl(PR_SET_TIMERSLACK, <unsigned long>slack if slack > 0 else 0, 0, 0, 0)
        return more

    def totals(self):
        """Counters so far and the histogram (a list of counts; histogram_bounds says of what)."""
        cdef int i
        return {
            "sent": self.counters.sent,
            "answered": self.counters.answered,
            "timeouts": self.counters.timeouts,
            "late": self.counters.late,
            "stray": self.counters.stray,
            "mismatched": self.counters.mismatched,
            "truncated": self.counters.truncated,
            "refused": self.counters.refused,
            "send_errors": self.counters.send_errors,
            "held_back": self.counters.held_back,
            "in_flight": self.in_flight,
            "octets_in": self.counters.octets_in,
            "latency_sum_ns": self.counters.latency_sum_ns,
            "latency_min_ns": self.counters.latency_min_ns,
            "latency_max_ns": self.counters.latency_max_ns,
            "busy_ns": max(0, self.counters.last_answer_ns - self.counters.first_sent_ns),
            "rcodes": [self.counters.rcodes[i] for i in range(16)],
            "histogram": [self.histogram[i] for i in range(HIST_LEN)],
        }

    cdef bint _run(self, int64_t end_ns, bint sending) noexcept nogil:
        cdef int64_t now = now_ns()
        cdef uint64_t allowed
        cdef uint32_t i, got, put
        cdef Client *client
        if self.start_ns == 0:
            self.start_ns = now
            self.next_expiry_ns = now + EXPIRE_NS
        while now < end_ns:
            got = 0
            put = 0
            allowed = self._allowed(now) if sending else 0
            for i in range(self.n_clients):
                # The turn moves on, so that at a low rate all sockets are used alike.
                client = &self.clients[(self.turn + i) % self.n_clients]
                if client.slots_free < self.slots_each:
                    got += self._receive(client)
                if allowed and client.slots_free:
                    put += self._send(client, &allowed)
            self.turn += put if self.rate > 0 else 1
            now = now_ns()
            if now >= self.next_expiry_ns:
                self._expire(now, sending)
                self.next_expiry_ns = now + EXPIRE_NS
            if not self.in_flight and (not sending or (self.count and self.counters.sent >= self.count)):
                return False
            if got < self.wake_at:
                self._pause(now, end_ns, sending, got + put)
                now = now_ns()
        return True

    cdef uint64_t _allowed(self, int64_t now) noexcept nogil:
        # Queries that may be sent now, the window apart.
        cdef uint64_t due = <uint64_t>-1
        if self.rate > 0:
            due = <uint64_t>(<double>(now - self.start_ns) * self.rate * 1e-9) + 1
        if self.count and due > self.count:
            due = self.count
        return due - self.counters.sent if due > self.counters.sent else 0

    cdef void _pause(self, int64_t now, int64_t end_ns, bint sending, uint32_t moved) noexcept nogil:
        cdef timespec ts
        cdef int64_t until = end_ns
        cdef int64_t due_ns
        if self.wait == WAIT_SPIN:
            return
        if self.wait == WAIT_NAP:
            ts.tv_sec = 0
            ts.tv_nsec = NAP_NS
            nanosleep(&ts, NULL)
            return
        if moved:
            return  # more may have come meanwhile; sleep only after a look that found nothing
        if self.next_expiry_ns < until and self.in_flight:
            until = self.next_expiry_ns
        if sending and self.rate > 0 and not (self.count and self.counters.sent >= self.count):
            due_ns = self.start_ns + <int64_t>(<double>self.counters.sent * 1e9 / self.rate) + 1
            if due_ns <= now:
                due_ns = now + NAP_NS  # due, but the window is full: a reply ends the wait anyway
            if due_ns < until:
                until = due_ns
        if until <= now:
            return
        ts.tv_sec = (until - now) // 1_000_000_000
        ts.tv_nsec = (until - now) % 1_000_000_000
        ppoll(self.poll_fds, self.n_clients, &ts, NULL)

    cdef uint32_t _send(self, Client *client, uint64_t *allowed) noexcept nogil:
        # Fill this socket's free slots, at most a batch; returns the number of queries sent.
        cdef uint32_t want = client.slots_free
        cdef uint32_t i, length
        cdef uint64_t number
        cdef uint16_t index, message_id
        cdef uint8_t *buf
        cdef int64_t now
        cdef int done
        cdef Slot *slot
        if want > <uint32_t>BATCH:
            want = BATCH
        if want > allowed[0]:
            want = <uint32_t>allowed[0]
        for i in range(want):
            buf = <uint8_t *>self.out_iov[i].iov_base
            index = client.free_slots[client.slots_free - 1 - i]
            slot = &client.slots[index]
            if self.unique:
                number = self.position + i
                length = self.query_off[1]
                memcpy(buf, self.queries, length)
                put_serial(buf + SERIAL_OFF, number)
            else:
                if self.random_order:
                    number = (next_random(&self.random_state) >> 32) * self.n_queries >> 32
                else:
                    number = (self.position + i) % self.n_queries
                length = self.query_off[number + 1] - self.query_off[number]
                memcpy(buf, self.queries + self.query_off[number], length)
            message_id = <uint16_t>(next_random(&self.random_state) >> 40) << self.slot_bits | index
            message_id = scramble(message_id, self.id_key)
            buf[0] = <uint8_t>(message_id >> 8)
            buf[1] = <uint8_t>message_id
            slot.id = message_id
            slot.query = number
            self.out_iov[i].iov_len = length
        now = now_ns()
        done = sendmmsg(client.fd, self.out, want, MSG_DONTWAIT)
        if done < 0:
            # ECONNREFUSED is news of an earlier query, EAGAIN a full queue: the same slots are filled anew
            # in a moment.
            if errno == ECONNREFUSED:
                self.counters.refused += 1
            elif errno != EINTR and errno != EAGAIN and errno != ENOBUFS:
                self.counters.send_errors += 1
            return 0
        if self.counters.sent == 0:
            self.counters.first_sent_ns = now
        for i in range(<uint32_t>done):
            client.slots[client.free_slots[client.slots_free - 1 - i]].sent_ns = now
        client.slots_free -= <uint32_t>done
        self.position += <uint64_t>done
        self.in_flight += <uint32_t>done
        self.counters.sent += <uint64_t>done
        allowed[0] -= <uint64_t>done
        return <uint32_t>done

    cdef uint32_t _receive(self, Client *client) noexcept nogil:
        # Take all replies that are here; returns how many messages came.
        cdef uint32_t total = 0
        cdef int n, i
        cdef int64_t now
        while True:
            n = recvmmsg(client.fd, self.arrived, BATCH, MSG_DONTWAIT, NULL)
            if n <= 0:
                if n < 0 and errno == ECONNREFUSED:
                    self.counters.refused += 1
                return total
            now = now_ns()
            for i in range(n):
                self._match(client, self.arrived_buffers + i * REPLY_STRIDE, self.arrived[i].msg_len, now)
            total += <uint32_t>n
            if n < BATCH:
                return total

    cdef void _match(self, Client *client, const uint8_t *reply, uint32_t length, int64_t now) noexcept nogil:
        # Find the query that this reply answers, and count it.
        cdef uint16_t message_id, index
        cdef int64_t waited
        cdef Slot *slot
        if length < HEADER_LEN or not reply[2] & 0x80:
            self.counters.stray += 1
            return
        message_id = <uint16_t>(<uint16_t>reply[0] << 8 | reply[1])
        index = unscramble(message_id, self.id_key) & <uint16_t>((1 << self.slot_bits) - 1)
        if index >= self.slots_each:
            self.counters.stray += 1
            return
        slot = &client.slots[index]
        if slot.sent_ns == 0 or slot.id != message_id:
            if slot.has_expired and slot.expired_id == message_id:
                slot.has_expired = 0
                self.counters.late += 1
            else:
                self.counters.stray += 1
            return
        if self.verify and not self._same_question(slot, reply, length):
            self.counters.mismatched += 1
            return
        waited = now - slot.sent_ns
        slot.sent_ns = 0
        client.free_slots[client.slots_free] = index
        client.slots_free += 1
        self.in_flight -= 1
        self.counters.answered += 1
        self.counters.octets_in += length
        self.counters.rcodes[reply[3] & 15] += 1
        self.counters.truncated += (reply[2] >> 1) & 1
        self.counters.last_answer_ns = now
        self.counters.latency_sum_ns += <uint64_t>waited
        if waited > self.counters.latency_max_ns:
            self.counters.latency_max_ns = waited
        if waited < self.counters.latency_min_ns or self.counters.latency_min_ns == 0:
            self.counters.latency_min_ns = waited
        self.histogram[histogram_index(<uint64_t>waited)] += 1

    cdef bint _same_question(self, const Slot *slot, const uint8_t *reply, uint32_t length) noexcept nogil:
        # The question must come back octet for octet (case too). FORMERR alone may come without one.
        cdef uint64_t number = 0 if self.unique else slot.query
        cdef const uint8_t *query = self.queries + self.query_off[number]
        cdef uint32_t question_len = self.question_len[number]
        cdef uint8_t serial[SERIAL_LEN]
        if length < HEADER_LEN + question_len:
            return length == HEADER_LEN and (reply[3] & 15) == 1
        if not self.unique:
            return memcmp(reply + HEADER_LEN, query + HEADER_LEN, question_len) == 0
        put_serial(serial, slot.query)
        return (memcmp(reply + SERIAL_OFF, serial, SERIAL_LEN) == 0
                and memcmp(reply + HEADER_LEN, query + HEADER_LEN, SERIAL_OFF - HEADER_LEN) == 0
                and memcmp(reply + SERIAL_OFF + SERIAL_LEN, query + SERIAL_OFF + SERIAL_LEN,
                           question_len - (SERIAL_OFF + SERIAL_LEN - HEADER_LEN)) == 0)

    cdef void _expire(self, int64_t now, bint sending) noexcept nogil:
        # Give up what waited longer than the timeout, and note queries that a full window held back.
        cdef uint32_t i, j
        cdef Slot *slot
        cdef Client *client
        if self.rate > 0 and sending:
            self.counters.held_back = max(self.counters.held_back, self._allowed(now))
        if not self.in_flight:
            return
        for i in range(self.n_clients):
            client = &self.clients[i]
            if client.slots_free == self.slots_each:
                continue
            for j in range(self.slots_each):
                slot = &client.slots[j]
                if slot.sent_ns == 0 or now - slot.sent_ns < self.timeout_ns:
                    continue
                slot.sent_ns = 0
                slot.expired_id = slot.id
                slot.has_expired = 1
                client.free_slots[client.slots_free] = <uint16_t>j
                client.slots_free += 1
                self.in_flight -= 1
                self.counters.timeouts += 1


cdef uint32_t question_length(const uint8_t *message, uint32_t length) noexcept nogil:
    # Octets of the question (qname, qtype, qclass) of an uncompressed query; 0 when it isn't whole.
    cdef uint32_t pos = HEADER_LEN
    while pos < length and message[pos]:
        if message[pos] > 63:
            return 0
        pos += <uint32_t>message[pos] + 1
    return pos + 5 - HEADER_LEN if pos + 5 <= length else 0
