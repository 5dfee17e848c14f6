# SPDX-License-Identifier: Apache-2.0
# _store.pxd: the only writer of the cache. Coordinator's loop: nogil; memory is taken once, at attach.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport cache_t
from fastdns._shm cimport fd_cache_header_t, fd_config_t, fd_entry_t, fd_post_t
from fastdns.coordinator._shard cimport shard_t

ctypedef enum store_rc:
    STORE_OK = 0
    STORE_NOT_WRITER = 1         # the header holds another generation: this process stores no more
    STORE_TOO_LARGE = 2          # over 4 KiB and over that class's quota of a quarter of the shard
    STORE_KEPT_BETTER = 3        # a usable answer is never replaced by a failure, a preferred one by no negative one
    STORE_UNSOUND = 4            # the entry is not what it says (entry_sound): a bug of the caller

ctypedef enum agree_rc:
    AGREE_DONE = 0               # the whole cache agrees
    AGREE_MORE = 1
    AGREE_NOT_WRITER = 2

# The writer's own memory; callers hold a pointer, tests look inside.
cdef struct store_t:
    cache_t cache
    fd_cache_header_t *header
    fd_post_t *post
    uint64_t generation
    const uint16_t *hits[16]     # FD_MAX_WORKERS
    uint32_t worker_count
    uint32_t sweep_bucket        # next to be swept, counted over all shards
    uint32_t agree_bucket        # likewise, of the sweep after a new configuration
    shard_t *shards

# Take the cache over: scan it (every length, offset, back reference; odd buckets emptied), build
# the private state, write `generation` to the header.
#   cache     opened by cache_open on a writable mapping that outlives the store
#   hits      one array of hit figures a worker (of all slots of the cache), NULL where there is none
#   post      figures (entries, octets) and counters go there
#   returns   NULL when memory is short
cdef store_t *store_attach(cache_t *cache, const uint16_t **hits, uint32_t worker_count,
                           fd_post_t *post, uint64_t generation, uint64_t now_ms) noexcept nogil

# From now on entries are counted for the blocks of this configuration, and bounded by their capacity.
cdef void store_count_blocks(store_t *store, const fd_config_t *config) noexcept nogil

# Store a whole entry (8-aligned; slot_ref is filled in here), replacing one of the same key. What
# stands in the way of space is evicted (SIEVE). Counts its own counters but `not_stored`.
cdef store_rc store_put(store_t *store, const fd_entry_t *entry, uint64_t now_ms) noexcept nogil

# The stored entry with this key, or NULL; valid until the next store_* call.
cdef const fd_entry_t *store_find(store_t *store, const fd_entry_t *key) noexcept nogil

# Other names were answered by this stored entry: it is in use as one that workers hit.
cdef void store_led(store_t *store, const fd_entry_t *entry) noexcept nogil

# Have readers answer the entry with this key until then, though it is stale (RFC 8767 s5). False: not there.
cdef bint store_hold(store_t *store, const fd_entry_t *key, uint64_t until_ms) noexcept nogil

# End what store_hold said, for all entries.
cdef void store_void_holds(store_t *store) noexcept nogil

# A bounded piece of upkeep (some 64 slots): drop what is past its TTL and its stale time. Returns
# entries dropped.
cdef uint32_t store_sweep(store_t *store, uint64_t now_ms) noexcept nogil

# Whether an entry is of use under the configuration that is in force now.
ctypedef bint (*agrees_t)(const void *context, const fd_entry_t *entry) noexcept nogil

# A piece of the sweep that follows a new configuration (some 640 slots): drop what does not agree with it.
cdef agree_rc store_agree(store_t *store, agrees_t agrees, const void *context) noexcept nogil

cdef void store_close(store_t *store) noexcept nogil
