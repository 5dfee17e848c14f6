# SPDX-License-Identifier: Apache-2.0
"""The readers' side of the cache: open, look up, view. SHM_LAYOUT

Exports cache_open, cache_prefetch, cache_prefetch_entry, cache_lookup, entry_sound and
entry_view (``_cache.pxd``). The steps of a look-up stand in ``_cache_read.pxd``, the memory
orders in ``_atomics.h``, the writer in ``coordinator/_store.pyx``.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastdns._cache_read cimport read_cache
from fastdns._proto cimport LABEL_MAX, RR_MIN_LEN, STALE_REPLY_TTL
from fastdns._segments cimport cache_geometry_sum
from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_ENTRY_FAILURE,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_QNAME_OFF,
    FD_KEY_CD,
    FD_KEY_DO,
    FD_LAYOUT_VERSION,
    FD_LINE,
    FD_MAGIC_CACHE,
    FD_PAGE,
    FD_UNIT,
    fd_bucket_t,
    fd_cache_header_t,
    fd_entry_records_off,
    fd_entry_t,
    fd_entry_ttl_off,
    fd_load16,
    fd_query_t,
)

cdef extern from "<fcntl.h>" nogil:
    int open(const char *path, int flags)
    enum:
        O_RDONLY, O_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *buf, size_t count)
    int close(int fd)

cdef extern from "<sys/stat.h>" nogil:
    struct stat:
        uint64_t st_ino
    int c_stat "stat" (const char *path, stat *out)

cdef enum:
    SHARD_MAX = 65536 * FD_UNIT  # octets; what a 16-bit offset reaches
    TTL_OFF_MIN = 5              # octets before a record's TTL: root owner, type, class
    TTL_TAIL = 6                 # TTL and rdlength


cdef inline int hex_digit(uint8_t c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    if 97 <= (c | 32) <= 102:
        return (c | 32) - 87
    return -1


cdef void read_boot_id(uint8_t *out) noexcept nogil:
    # The 16 octets of this boot's ID; zeros where the kernel does not tell, as _segments.boot_id.
    cdef uint8_t text[64]
    cdef ssize_t n
    cdef int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC)
    cdef int i, digit
    cdef int digits = 0
    memset(out, 0, 16)
    if fd < 0:
        return
    n = read(fd, text, sizeof(text))
    close(fd)
    for i in range(<int>n):
        digit = hex_digit(text[i])
        if digit >= 0 and digits < 32:
            out[digits >> 1] |= <uint8_t>(digit << (0 if digits & 1 else 4))
            digits += 1
    if digits != 32:
        memset(out, 0, 16)


cdef uint64_t read_time_namespace() noexcept nogil:
    # Inode of this process's time namespace; 0 where there is none.
    cdef stat status
    return status.st_ino if c_stat("/proc/self/ns/time", &status) == 0 else 0


cdef bint geometry_sound(const fd_cache_header_t *header) noexcept nogil:
    # The checksum guards against another build; this against a header that was written over.
    cdef uint64_t index = <uint64_t>header.bucket_count * FD_LINE
    if header.shard_count == 0 or header.shard_count & (header.shard_count - 1):
        return False
    if header.bucket_count == 0 or header.bucket_count & (header.bucket_count - 1):
        return False
    if header.shard_count > 65536 or header.shard_size % FD_PAGE or header.shard_size > <uint32_t>SHARD_MAX:
        return False
    return index < header.shard_size


cdef open_rc cache_open(cache_t *cache, void *base, uint64_t size) noexcept nogil:
    cdef const fd_cache_header_t *header = <const fd_cache_header_t *>base
    cdef uint8_t boot[16]
    if base == NULL or size < FD_PAGE or header.magic != FD_MAGIC_CACHE:
        return OPEN_NOT_A_CACHE
    if header.layout_version != FD_LAYOUT_VERSION or header.geometry_sum != cache_geometry_sum(header):
        return OPEN_OTHER_LAYOUT
    if not geometry_sound(header):
        return OPEN_OTHER_LAYOUT
    if header.total_size != size:
        return OPEN_OTHER_SIZE
    if FD_PAGE + <uint64_t>header.shard_count * header.shard_size != size:
        return OPEN_OTHER_SIZE
    read_boot_id(boot)
    if memcmp(boot, header.boot_id, 16) != 0 or header.time_ns_inode != read_time_namespace():
        return OPEN_OTHER_BOOT
    cache.base = <uint8_t *>base
    cache.size = size
    memcpy(cache.hash_key, header.hash_key, 16)
    cache.shard_count = header.shard_count
    cache.shard_size = header.shard_size
    cache.bucket_count = header.bucket_count
    cache.slots = header.bucket_count * FD_BUCKET_SLOTS
    cache.spin = 0
    return OPEN_OK


cdef void cache_prefetch(const cache_t *cache, uint64_t key_hash) noexcept nogil:
    fd_prefetch(cache_shard(cache, key_hash) + hash_bucket(cache, key_hash) * FD_LINE)


cdef void cache_prefetch_entry(const cache_t *cache, uint64_t key_hash) noexcept nogil:
    # A hint only: what is read here without a check is no more than an address to load from,
    # and a load that is only prefetched can't fault.
    cdef const uint8_t *shard = cache_shard(cache, key_hash)
    cdef const fd_bucket_t *bucket = <const fd_bucket_t *>(shard + hash_bucket(cache, key_hash) * FD_LINE)
    cdef uint16_t tag = hash_tag(key_hash)
    cdef uint32_t off
    cdef int i
    for i in range(FD_BUCKET_SLOTS):
        if fd_load16(&bucket.tag[i]) == tag:
            off = fd_load16(&bucket.off[i]) * <uint32_t>FD_UNIT
            fd_prefetch(shard + off)
            fd_prefetch(shard + off + FD_LINE)
            fd_prefetch(shard + off + 2 * FD_LINE)
            return


cdef cache_rc cache_lookup(const cache_t *cache, const fd_query_t *query, uint64_t now_ms,
                           uint32_t want, uint8_t *scratch, answer_view *view,
                           uint32_t *slot, uint64_t *counters) noexcept nogil:
    return read_cache(cache, query, now_ms, want, scratch, view, slot, counters, True, NULL, NULL)


cdef bint qname_sound(const uint8_t *qname, uint32_t qname_len) noexcept nogil:
    # Whole labels, the root exactly at the end; RFC 1035 s3.1.
    cdef uint32_t at = 0
    while at < qname_len:
        if qname[at] == 0:
            return at + 1 == qname_len
        if qname[at] > LABEL_MAX:
            return False
        at += 1 + <uint32_t>qname[at]
    return False


cdef bint entry_sound(const fd_entry_t *entry, uint32_t octets) noexcept nogil:
    cdef const uint8_t *base = <const uint8_t *>entry
    cdef const uint16_t *ttl_off
    cdef uint32_t records_off, i
    cdef uint32_t least = TTL_OFF_MIN
    if octets < FD_ENTRY_QNAME_OFF or entry.qname_len == 0:
        return False
    if entry.kind < FD_ENTRY_POSITIVE or entry.kind > FD_ENTRY_FAILURE:
        return False
    if entry.variant not in (0, 4, 6) or entry.key_flags > (FD_KEY_DO | FD_KEY_CD):
        return False
    if entry.ttl_count != <uint32_t>entry.ancount + entry.nscount + entry.arcount:
        return False
    if <uint32_t>entry.rotate_off + entry.rotate_len * entry.rotate_count > entry.records_len:
        return False
    records_off = fd_entry_records_off(entry.qname_len, entry.ttl_count)
    if octets < records_off or octets - records_off < entry.records_len:
        return False
    if not qname_sound(base + FD_ENTRY_QNAME_OFF, entry.qname_len):
        return False
    # Each record has its TTL inside the records, in order, with room for all before and after.
    ttl_off = <const uint16_t *>(base + fd_entry_ttl_off(entry.qname_len))
    for i in range(entry.ttl_count):
        if ttl_off[i] < least:
            return False
        least = <uint32_t>ttl_off[i] + RR_MIN_LEN
    return entry.ttl_count == 0 or least - TTL_OFF_MIN <= entry.records_len


cdef bint entry_view(const uint8_t *entry, uint32_t octets, answer_view *view) noexcept nogil:
    cdef const fd_entry_t *header = <const fd_entry_t *>entry
    if not entry_sound(header, octets):
        return False
    view.entry = header
    view.qname = entry + FD_ENTRY_QNAME_OFF
    view.ttl_off = <const uint16_t *>(entry + fd_entry_ttl_off(header.qname_len))
    view.records = entry + fd_entry_records_off(header.qname_len, header.ttl_count)
    view.ttl_avail = header.ttl_count
    view.records_avail = header.records_len
    view.spin = 0
    view.stale_ttl_s = STALE_REPLY_TTL
    view.told_len = 0
    return True
