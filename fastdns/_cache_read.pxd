# SPDX-License-Identifier: Apache-2.0
# _cache_read.pxd: the steps of one look-up, as an inline template. SHM_LAYOUT
#
# cache_lookup (_cache.pyx) calls read_cache with check=True and no hook, and the compiler folds
# both away. The stress tests compile the same lines once more with a hook between the steps, and
# once without the last check: the mutant that they must catch.
#
# What is copied before fd_seq_same agrees may be torn, or be the payload of another answer that
# imitates an entry. Until then nothing is believed: numbers are clamped, nothing is counted.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp

from fastdns._cache cimport CACHE_HIT, CACHE_MISS, CACHE_STALE, CACHE_STALE_NOW, answer_view, cache_rc
from fastdns._cache cimport cache_shard, cache_t, hash_bucket, hash_tag, silence_over, stale_epoch
from fastdns._proto cimport MESSAGE_MAX, RR_MIN_LEN, STALE_REPLY_TTL
from fastdns._rotate cimport part_t, rotate_parts
from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_ENTRY_QNAME_OFF,
    FD_LINE,
    FD_UNIT,
    fd_bucket_t,
    fd_copy_out,
    fd_copy_out_at,
    fd_entry_records_off,
    fd_entry_t,
    fd_entry_ttl_off,
    fd_query_t,
    fd_seq_begin,
    fd_seq_same,
    fd_stale_now,
)
from fastdns._stats cimport FD_C_lookup_abandoned, FD_C_lookup_retries, bump

cdef extern from * nogil:
    """
    #if defined(__x86_64__)
    #define fd_spin_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define fd_spin_pause() __asm__ __volatile__("yield")
    #else
    #define fd_spin_pause() ((void)0)
    #endif
    """
    void fd_spin_pause() noexcept

cdef enum:
    READ_ATTEMPTS = 8            # the writer holds a bucket for some 10 ns; a killed one for ever

cdef enum read_step:             # what a hook is told
    READ_BEGUN = 0               # the sequence number was noted
    READ_BUCKET = 1              # the bucket was copied
    READ_KEY = 2                 # header and qname of a matching slot were copied
    READ_COPIED = 3              # all was copied; the check comes next

ctypedef void (*read_hook)(int step, void *arg) noexcept nogil


cdef inline uint32_t round_up8(uint32_t n) noexcept nogil:
    return (n + 7) & ~<uint32_t>7


cdef inline bint copy_key(const uint8_t *stored, uint32_t octets, const fd_query_t *query,
                          uint8_t *scratch) noexcept nogil:
    # Copy header and qname; whether they are the query's, every part of the key.
    cdef uint32_t head = round_up8(FD_ENTRY_QNAME_OFF + query.qname_len)
    cdef const fd_entry_t *entry = <const fd_entry_t *>scratch
    if octets < head:
        return False
    fd_copy_out(scratch, stored, head)
    return (entry.key_hash == query.key_hash and entry.qname_len == query.qname_len
            and entry.group == query.group and entry.variant == query.variant
            and entry.key_flags == query.key_flags
            and entry.qtype == query.qtype and entry.qclass == query.qclass
            and memcmp(scratch + FD_ENTRY_QNAME_OFF, query.qname, query.qname_len) == 0)


cdef inline void copy_rotated(const uint8_t *records, const fd_entry_t *entry, uint32_t spin,
                              uint32_t want, uint8_t *out) noexcept nogil:
    # rotate_parts keeps within records_len whatever a torn header says, and that within the slot.
    cdef part_t parts[4]
    cdef uint32_t used = rotate_parts(entry, spin, want, parts)
    cdef uint32_t i
    for i in range(used):
        fd_copy_out_at(out, records, parts[i].off, parts[i].len)
        out += parts[i].len


cdef inline bint copy_answer(const uint8_t *stored, uint32_t octets, uint32_t want, uint32_t spin,
                             uint8_t *scratch, answer_view *view) noexcept nogil:
    # After copy_key: copy as many TTL offsets and octets of records as a reply can hold, in the
    # order that the reply is to have. False if the entry claims more than its slot has.
    cdef const fd_entry_t *entry = <const fd_entry_t *>scratch
    cdef uint32_t head = round_up8(FD_ENTRY_QNAME_OFF + entry.qname_len)
    cdef uint32_t ttl_off = fd_entry_ttl_off(entry.qname_len)
    cdef uint32_t records_off = fd_entry_records_off(entry.qname_len, entry.ttl_count)
    cdef uint32_t records = entry.records_len
    cdef uint32_t ttls = entry.ttl_count
    cdef uint32_t records_to
    if octets < records_off or octets - records_off < records:
        return False
    # The least record has 11 octets; a count that says otherwise is torn, and bounded here too.
    records = min(records, want)
    ttls = min(ttls, want // RR_MIN_LEN + 1)
    # `head` may already hold the first offsets: they follow the name at an even octet. The
    # records come right behind the last offset copied, so scratch holds no more than an entry.
    records_to = round_up8(ttl_off + 2 * ttls)
    fd_copy_out(scratch + head, stored + head, records_to - head)
    if entry.rotate_count == 0:
        fd_copy_out(scratch + records_to, stored + records_off, records)
    else:
        copy_rotated(stored + records_off, entry, spin, records, scratch + records_to)
    view.entry = entry
    view.qname = scratch + FD_ENTRY_QNAME_OFF
    view.ttl_off = <const uint16_t *>(scratch + ttl_off)
    view.records = scratch + records_to
    view.ttl_avail = ttls
    view.records_avail = records
    view.spin = 0
    view.stale_ttl_s = STALE_REPLY_TTL
    view.told_len = 0
    return True


cdef inline cache_rc judge_age(const cache_t *cache, const fd_entry_t *entry, uint64_t now_ms) noexcept nogil:
    # A batch reads the clock once, so an entry may be younger than `now_ms`: that is age 0.
    cdef uint64_t age_ms = now_ms - entry.stored_ms if now_ms > entry.stored_ms else 0
    if age_ms < <uint64_t>entry.ttl_s * 1000:
        return CACHE_MISS if silence_over(cache, entry) else CACHE_HIT
    # The failure recheck timer gives stale data out at once, but never longer than the maximum
    # stale timer allows; RFC 8767 s5.
    if age_ms >= (<uint64_t>entry.ttl_s + entry.stale_s) * 1000:
        return CACHE_MISS
    if fd_stale_now(entry.stale_mark, now_ms, stale_epoch(cache)):
        return CACHE_STALE_NOW
    return CACHE_STALE


cdef inline cache_rc read_cache(const cache_t *cache, const fd_query_t *query, uint64_t now_ms,
                                uint32_t want, uint8_t *scratch, answer_view *view,
                                uint32_t *slot, uint64_t *counters, bint check, read_hook hook,
                                void *hook_arg) noexcept nogil:
    cdef uint8_t *shard = cache_shard(cache, query.key_hash)
    cdef uint32_t bucket_number = hash_bucket(cache, query.key_hash)
    cdef const fd_bucket_t *shared = <const fd_bucket_t *>(shard + bucket_number * FD_LINE)
    cdef uint16_t tag = hash_tag(query.key_hash)
    cdef uint64_t copy[8]        # by words: fd_copy_out wants them aligned
    cdef const fd_bucket_t *bucket = <const fd_bucket_t *>copy
    cdef uint32_t begun, off, octets
    cdef int attempt, i
    cdef bint found
    want = min(want, <uint32_t>MESSAGE_MAX)
    for attempt in range(READ_ATTEMPTS):
        if attempt != 0:
            bump(counters, FD_C_lookup_retries, 1)
            fd_spin_pause()
        begun = fd_seq_begin(&shared.seq)
        if begun & 1:
            continue
        if hook != NULL:
            hook(READ_BEGUN, hook_arg)
        fd_copy_out(copy, shared, FD_LINE)
        if hook != NULL:
            hook(READ_BUCKET, hook_arg)
        found = False
        for i in range(FD_BUCKET_SLOTS):
            if bucket.tag[i] != tag:
                continue
            off = bucket.off[i] * <uint32_t>FD_UNIT
            octets = bucket.len[i] * <uint32_t>FD_UNIT
            if off > cache.shard_size or octets > cache.shard_size - off:
                continue
            if not copy_key(shard + off, octets, query, scratch):
                continue
            if hook != NULL:
                hook(READ_KEY, hook_arg)
            if copy_answer(shard + off, octets, want, cache.spin, scratch, view):
                found = True
                break
        if hook != NULL:
            hook(READ_COPIED, hook_arg)
        if check and not fd_seq_same(&shared.seq, begun):
            continue
        if not found:
            return CACHE_MISS
        slot[0] = (<uint32_t>(query.key_hash & (cache.shard_count - 1)) * cache.slots
                   + bucket_number * <uint32_t>FD_BUCKET_SLOTS + <uint32_t>i)
        return judge_age(cache, view.entry, now_ms)
    bump(counters, FD_C_lookup_abandoned, 1)
    return CACHE_MISS
