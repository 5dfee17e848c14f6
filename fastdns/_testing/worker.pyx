# SPDX-License-Identifier: Apache-2.0
"""The coordinator's end of one worker's region, for tests that play the coordinator."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._cache cimport OPEN_OK, cache_open, cache_t
from fastdns._name cimport key_extra, name_fold_hash
from fastdns._ring cimport ring_commit, ring_empty, ring_next, ring_open, ring_release, ring_reserve, ring_t
from fastdns._segments cimport boottime_ms, config_check, log_check, map_segment, region_check
from fastdns._shm cimport (
    FD_ENTRY_POSITIVE,
    FD_ENTRY_QNAME_OFF,
    FD_PLUGIN_FORWARD,
    FD_Q_CLIENT,
    FD_RECORD_ANSWER,
    FD_RECORD_FAILURE,
    FD_RECORD_LOG_QUERY,
    FD_SUSPECTS,
    fd_answer_t,
    fd_at,
    fd_entry_records_off,
    fd_entry_size,
    fd_entry_t,
    fd_entry_ttl_off,
    fd_in_hand_t,
    fd_load32,
    fd_load64,
    fd_log_query_t,
    fd_log_t,
    fd_config_t,
    fd_post_t,
    fd_question_client_off,
    fd_question_client_t,
    fd_question_t,
    fd_region_t,
    fd_series_t,
    fd_store32,
    fd_store64,
    fd_waits_t,
    fd_zone,
)
from fastdns._stats cimport FD_COUNTERS
from fastdns.coordinator._rotation cimport rotate_find
from fastdns.coordinator._store cimport STORE_OK, store_attach, store_close, store_put, store_t


def zone_fingerprint(int config, int zone) -> int:
    """Of a zone's block in a configuration segment: what entries of it carry."""
    cdef uint64_t size = 0
    cdef void *base = map_segment(config, False, &size)
    cdef const fd_config_t *header = config_check(base, size)
    if header == NULL or <uint32_t>zone >= header.zones.count:
        raise RuntimeError("no such zone")
    return fd_zone(header, zone).fingerprint


cdef write_entry(fd_entry_t *entry, uint32_t octets, question, bytes name, bytes records, ttl_offsets,
                 counts, int ttl_s, int msg_flags, marked):
    cdef uint16_t *offsets
    cdef int i
    memset(entry, 0, octets)
    entry.key_hash = question["key_hash"]
    entry.stored_ms = boottime_ms() - <uint64_t>marked.get("age_ms", 0)
    entry.ttl_s = ttl_s
    entry.stale_s = marked.get("stale_s", 0)
    entry.stale_mark = marked.get("stale_mark", 0)
    entry.group = question["group"]
    entry.variant = question["variant"]
    entry.key_flags = question["key_flags"]
    entry.qtype = question["qtype"]
    entry.qclass = question["qclass"]
    entry.msg_flags = msg_flags
    entry.ancount, entry.nscount, entry.arcount = counts
    entry.records_len = <uint16_t>len(records)
    entry.ttl_count = <uint16_t>len(ttl_offsets)
    entry.qname_len = <uint8_t>len(name)
    entry.kind = marked.get("kind", FD_ENTRY_POSITIVE)
    entry.zone = marked.get("zone", 0)
    entry.plugin = marked.get("plugin", FD_PLUGIN_FORWARD)
    entry.marks = marked.get("marks", 0)
    entry.fingerprint = marked.get("fingerprint", 0)
    entry.plain_len = marked.get("plain_len", 12 + len(name) + 4 + len(records))
    memcpy(<uint8_t *>entry + FD_ENTRY_QNAME_OFF, <const uint8_t *>name, len(name))
    offsets = <uint16_t *>(<uint8_t *>entry + fd_entry_ttl_off(entry.qname_len))
    for i in range(len(ttl_offsets)):
        offsets[i] = ttl_offsets[i]
    memcpy(<uint8_t *>entry + fd_entry_records_off(entry.qname_len, entry.ttl_count),
           <const uint8_t *>records, len(records))
    if marked.get("rotate"):
        rotate_find(entry)


def fill_cache(int fd, answers, int ttl_s=3600, int group=0, int variant=0, **marked):
    """Store answers in the cache behind ``fd`` as its only writer.

    answers: (wire qname in lower case, qtype, records, ttl_offsets, counts) each. marked: kind, zone, plugin,
    fingerprint, plain_len, marks, stale_s, stale_mark of the entries; age_ms: since they were stored;
    rotate: loadbalance turns them.
    """
    cdef uint64_t size = 0
    cdef void *base = map_segment(fd, True, &size)
    cdef cache_t cache
    cdef fd_post_t post
    cdef store_t *store
    cdef uint8_t folded[256]
    cdef const uint16_t *hits[1]
    cdef bytes name, room
    memset(&post, 0, sizeof(fd_post_t))
    hits[0] = NULL
    if base == NULL or cache_open(&cache, base, size) != OPEN_OK:
        raise RuntimeError("not a cache")
    store = store_attach(&cache, hits, 1, &post, 1, boottime_ms())
    if store == NULL:
        raise MemoryError
    stored = 0
    for name, qtype, records, ttl_offsets, counts in answers:
        octets = fd_entry_size(<uint8_t>len(name), <uint16_t>len(ttl_offsets), <uint16_t>len(records))
        room = bytes(octets + 64)
        extra = key_extra(group, variant, 0, qtype, 1)
        question = {"key_hash": name_fold_hash(<const uint8_t *>name, <uint32_t>len(name), extra,
                                               cache.hash_key, folded),
                    "group": group, "variant": variant, "key_flags": 0, "qtype": qtype, "qclass": 1}
        write_entry(<fd_entry_t *><uint8_t *>room, octets, question, name, records, ttl_offsets,
                    counts, ttl_s, 0, marked)
        stored += store_put(store, <fd_entry_t *><uint8_t *>room, boottime_ms()) == STORE_OK
    store_close(store)
    return stored


cdef class CoordinatorEnd:
    """Takes questions from, and puts answers into, the region behind descriptor ``fd``."""

    cdef fd_region_t *region
    cdef ring_t questions
    cdef ring_t answers

    def __init__(self, int fd):
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        self.region = region_check(base, size)
        if self.region == NULL:
            raise RuntimeError("not a worker's region")
        ring_open(&self.questions, &self.region.question_ring,
                  <uint8_t *>fd_at(self.region, self.region.questions.off), self.region.questions.count)
        ring_open(&self.answers, &self.region.answer_ring,
                  <uint8_t *>fd_at(self.region, self.region.answers.off), self.region.answers.count)

    def sleep(self):
        """Ask to be woken by eventfd."""
        fd_store32(&self.region.question_ring.sleeping, 1)

    def take(self):
        """The next question as a dict, or None."""
        cdef fd_question_t *question = <fd_question_t *>ring_next(&self.questions)
        cdef fd_question_client_t *client
        if question == NULL:
            return None
        taken = {
            "ticket": question.ticket,
            "key_hash": question.key_hash,
            "group": question.group,
            "variant": question.variant,
            "key_flags": question.key_flags,
            "qtype": question.qtype,
            "qclass": question.qclass,
            "flags": question.flags,
            "qname": bytes((<uint8_t *>question + sizeof(fd_question_t))[:question.qname_len]),
        }
        if question.flags & FD_Q_CLIENT:
            client = <fd_question_client_t *>(<uint8_t *>question + fd_question_client_off(question.qname_len))
            assert question.record.len >= (<uint8_t *>client - <uint8_t *>question) + sizeof(fd_question_client_t)
            taken["peer"] = bytes((<uint8_t *>&client.peer)[:sizeof(client.peer)])
            taken["local"] = bytes((<uint8_t *>&client.local)[:16])
            taken["listener"] = client.listener
            taken["tcp"] = client.tcp
            taken["edns"] = client.edns
        ring_release(&self.questions)
        return taken

    def answer(self, question, bytes records=b"", ttl_offsets=(), counts=(0, 0, 0), int ttl_s=60,
               int msg_flags=0, ticket=None, qname=None, **marked):
        """Put an answer record for a question of ``take``; marked as for fill_cache. False: the ring is full."""
        cdef bytes name = question["qname"] if qname is None else qname
        cdef uint32_t octets = fd_entry_size(<uint8_t>len(name), <uint16_t>len(ttl_offsets),
                                             <uint16_t>len(records))
        cdef fd_answer_t *answer = <fd_answer_t *>ring_reserve(
            &self.answers, <uint32_t>sizeof(fd_answer_t) + octets)
        if answer == NULL:
            return False
        answer.record.kind = FD_RECORD_ANSWER
        answer.ticket = question["ticket"] if ticket is None else ticket
        write_entry(<fd_entry_t *>(<uint8_t *>answer + sizeof(fd_answer_t)), octets, question, name,
                    records, ttl_offsets, counts, ttl_s, msg_flags, marked)
        ring_commit(&self.answers)
        return True

    def fail(self, question, int ede):
        """Put a failure record. False: the ring is full."""
        cdef fd_answer_t *answer = <fd_answer_t *>ring_reserve(&self.answers, sizeof(fd_answer_t))
        if answer == NULL:
            return False
        answer.record.kind = FD_RECORD_FAILURE
        answer.record.ede = ede
        answer.ticket = question["ticket"]
        ring_commit(&self.answers)
        return True

    def generation(self, uint64_t value):
        """Announce a new coordinator."""
        fd_store64(&self.region.coordinator_generation, value)

    def stop(self, uint32_t word):
        """Write the stop word, as the keeper does."""
        fd_store32(&self.region.stop, word)

    def overflow(self):
        """Mark the answer ring as the coordinator does when an answer found it full."""
        fd_store32(&self.region.answer_ring.marked, fd_load32(&self.region.answer_ring.marked) + 1)

    @property
    def answers_empty(self):
        return ring_empty(&self.answers)

    @property
    def heartbeat(self):
        return fd_load64(&self.region.heartbeat)

    @property
    def serving(self):
        return fd_load32(&self.region.serving)

    @property
    def pending(self):
        return fd_load32(&self.region.pending_used)

    @property
    def clients(self):
        return fd_load32(&self.region.clients_used)

    def died_on_tcp(self, const uint8_t[::1] message):
        """Leave behind what a worker does that dies on a TCP message. No worker may be running."""
        cdef fd_in_hand_t *hand = &self.region.in_hand
        memcpy(fd_at(self.region, self.region.tcp.off), &message[0], message.shape[0])
        hand.off = self.region.tcp.off
        hand.len = <uint32_t>message.shape[0]
        hand.hash = 0            # the kill may have met an answer in hand

    def died_on_key(self, uint64_t key_hash):
        """Leave behind what a worker does that dies on an answer. No worker may be running."""
        self.region.in_hand.len = 0
        self.region.in_hand.hash = key_hash

    @property
    def in_hand(self):
        cdef const fd_in_hand_t *hand = &self.region.in_hand
        return {"len": hand.len, "hash": hand.hash}

    @property
    def suspects(self):
        """Deaths on each packet and key that is remembered."""
        return {self.region.suspects[i].hash: self.region.suspects[i].deaths
                for i in range(FD_SUSPECTS) if self.region.suspects[i].hash}

    def series(self, int number):
        """A series, a list for each of its fields."""
        cdef fd_series_t *s = <fd_series_t *>fd_at(self.region, self.region.series.off) + number
        assert <uint32_t>number < self.region.series.count
        return {"requests": s.requests, "responses": s.responses, "request_sizes": s.request_sizes,
                "request_octets": s.request_octets, "response_sizes": s.response_sizes,
                "response_octets": s.response_octets, "times": s.times, "times_us": s.times_us,
                "do_requests": s.do_requests, "cache_hits": s.cache_hits, "cache_misses": s.cache_misses,
                "served_stale": s.served_stale}

    def waits(self):
        """What clients waited: hits, their us, misses, their us."""
        cdef fd_waits_t *w = &self.region.waits
        return w.hits, w.hits_us, w.misses, w.misses_us

    def counters(self):
        """The worker's counters, in the order of _counters.h."""
        return [fd_load64(&self.region.counters[i]) for i in range(FD_COUNTERS)]


cdef class LogEnd:
    """Takes the records of the log ring behind descriptor ``fd``, as control does."""

    cdef ring_t ring

    def __init__(self, int fd):
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        cdef fd_log_t *log = log_check(base, size)
        if log == NULL:
            raise RuntimeError("not a log ring")
        ring_open(&self.ring, &log.ring, <uint8_t *>base + sizeof(fd_log_t), log.octets)

    def take(self):
        """The next line of `log`, a dict, or None."""
        cdef fd_log_query_t *line = <fd_log_query_t *>ring_next(&self.ring)
        if line == NULL:
            return None
        assert line.record.kind == FD_RECORD_LOG_QUERY
        taken = {
            "time_ms": line.time_ms, "duration_us": line.duration_us, "zone": line.zone, "id": line.id,
            "peer": bytes((<uint8_t *>&line.peer)[:sizeof(line.peer)]), "local": bytes(line.local.address[:16]),
            "query_flags": line.query_flags, "reply_flags": line.reply_flags, "rcode": line.rcode,
            "qtype": line.qtype, "qclass": line.qclass, "request_size": line.request_size,
            "reply_size": line.reply_size, "udp_size": line.udp_size, "listener": line.listener,
            "tcp": line.tcp, "edns": line.edns,
            "qname": bytes((<uint8_t *>line + sizeof(fd_log_query_t))[:line.qname_len]),
        }
        ring_release(&self.ring)
        return taken
