# SPDX-License-Identifier: Apache-2.0
"""The shared-memory segments: sizes, creation, checks. SHM_LAYOUT

Each segment is a memfd of mode 0600, allocated in full (``posix_fallocate`` takes the pages
without mapping them, so nothing of it is inherited by a fork) and given its header before
anybody else sees it.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_LAYOUT_VERSION,
    FD_LINE,
    FD_MAGIC_BOARD,
    FD_MAGIC_CACHE,
    FD_MAGIC_CONFIG,
    FD_MAGIC_LEDGER,
    FD_MAGIC_LOG,
    FD_MAGIC_POST,
    FD_MAGIC_REGION,
    FD_MAX_WORKERS,
    FD_PAGE,
    FD_ROLE_CONTROL,
    FD_ROLE_COORDINATOR,
    FD_ROLE_WORKER,
    fd_batch_t,
    fd_board_t,
    fd_bucket_t,
    fd_cache_header_t,
    fd_client_t,
    fd_config_t,
    fd_entry_t,
    fd_ledger_t,
    fd_log_t,
    fd_part_t,
    fd_pending_t,
    fd_post_t,
    fd_region_t,
    fd_series_t,
)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void *addr, size_t length)
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED

cdef extern from "<sys/stat.h>" nogil:
    struct stat:
        long st_size
    int fstat(int fd, stat *out)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    enum:
        CLOCK_BOOTTIME

cdef enum:
    SHARD_MIN = 320 * 1024       # octets: four of the largest answers fit, design "The cache"
    INDEX_SHARE = 12             # at most 1/12 of a shard is index: some 100 to 130 octets an entry


cdef uint64_t fold(uint64_t total, uint64_t value) noexcept nogil:
    # FNV-1a by words: a checksum against another build, not against an attacker.
    return (total ^ value) * <uint64_t>0x100000001b3


cdef uint64_t cache_geometry_sum(const fd_cache_header_t *header) noexcept nogil:
    cdef uint64_t total = <uint64_t>0xcbf29ce484222325
    total = fold(total, header.layout_version)
    total = fold(total, header.shard_count)
    total = fold(total, header.total_size)
    total = fold(total, header.shard_size)
    total = fold(total, header.bucket_count)
    total = fold(total, sizeof(fd_bucket_t))
    return fold(total, sizeof(fd_entry_t))


cdef uint64_t fold_part(uint64_t total, const fd_part_t *part) noexcept nogil:
    return fold(fold(total, part.off), part.count)


cdef uint64_t region_geometry_sum(const fd_region_t *region) noexcept nogil:
    cdef uint64_t total = <uint64_t>0xcbf29ce484222325
    total = fold(total, region.layout_version)
    total = fold(total, region.total_size)
    total = fold_part(total, &region.questions)
    total = fold_part(total, &region.answers)
    total = fold_part(total, &region.pending)
    total = fold_part(total, &region.clients)
    total = fold_part(total, &region.batch)
    total = fold_part(total, &region.hits)
    total = fold_part(total, &region.tcp)
    total = fold_part(total, &region.series)
    total = fold(total, sizeof(fd_region_t))
    total = fold(total, sizeof(fd_pending_t))
    return fold(total, sizeof(fd_client_t))


cdef uint64_t boottime_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_BOOTTIME, &now)
    return <uint64_t>now.tv_sec * 1000 + <uint64_t>now.tv_nsec // 1000000


cdef uint64_t boottime_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_BOOTTIME, &now)
    return <uint64_t>now.tv_sec * 1000000 + <uint64_t>now.tv_nsec // 1000


cdef void *map_segment(int fd, bint writable, uint64_t *size) noexcept nogil:
    cdef stat status
    cdef void *base
    if fstat(fd, &status) != 0 or status.st_size <= 0:
        return NULL
    size[0] = <uint64_t>status.st_size
    base = mmap(NULL, <size_t>status.st_size, PROT_READ | (PROT_WRITE if writable else 0),
                MAP_SHARED, fd, 0)
    return NULL if base == MAP_FAILED else base


cdef fd_region_t *region_check(void *base, uint64_t size) noexcept nogil:
    cdef fd_region_t *region = <fd_region_t *>base
    if base == NULL or size < sizeof(fd_region_t) or region.magic != FD_MAGIC_REGION:
        return NULL
    if region.layout_version != FD_LAYOUT_VERSION or region.total_size != size:
        return NULL
    return region if region.geometry_sum == region_geometry_sum(region) else NULL


cdef fd_post_t *post_check(void *base, uint64_t size) noexcept nogil:
    cdef fd_post_t *post = <fd_post_t *>base
    if base == NULL or size < sizeof(fd_post_t) or post.magic != FD_MAGIC_POST:
        return NULL
    return post if post.layout_version == FD_LAYOUT_VERSION and post.total_size == size else NULL


cdef const fd_config_t *config_check(const void *base, uint64_t size) noexcept nogil:
    cdef const fd_config_t *config = <const fd_config_t *>base
    if base == NULL or size < sizeof(fd_config_t) or config.magic != FD_MAGIC_CONFIG:
        return NULL
    if config.layout_version != FD_LAYOUT_VERSION or config.total_size != size:
        return NULL
    return config


cdef fd_log_t *log_check(void *base, uint64_t size) noexcept nogil:
    cdef fd_log_t *log = <fd_log_t *>base
    if base == NULL or size < sizeof(fd_log_t) or log.magic != FD_MAGIC_LOG:
        return NULL
    if log.layout_version != FD_LAYOUT_VERSION or log.total_size != size or log.octets > size - sizeof(fd_log_t):
        return NULL
    return log


cdef class _Mapped:
    """A segment mapped for writing its header, unmapped at the end of the block."""

    cdef void *base
    cdef uint64_t size

    def __cinit__(self, int fd):
        self.base = map_segment(fd, True, &self.size)
        if self.base == NULL:
            raise OSError(errno, f"mmap of a shared segment: {os.strerror(errno)}")

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)


def _allocate(name: str, size: int) -> int:
    fd = os.memfd_create(f"fastdns-{name}", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)  # a memfd starts as 0777: any uid could open it again through /proc
        os.posix_fallocate(fd, 0, size)
    except OSError:
        os.close(fd)
        raise
    return fd


cdef uint32_t _round_up(uint64_t value, uint64_t unit) noexcept nogil:
    return <uint32_t>((value + unit - 1) // unit * unit)


def cache_geometry(size: int) -> tuple[int, int, int]:
    """Shards, octets of a shard and buckets of a shard for a cache of ``size`` octets.

    The largest power of two of shards that leaves each at least 320 KiB.
    Raises ValueError if not even one fits.
    """
    room = size - FD_PAGE
    if room < SHARD_MIN:
        raise ValueError(f"cache size {size}: expected at least {SHARD_MIN + FD_PAGE} octets")
    shards = 1
    while room // (shards * 2) >= SHARD_MIN:
        shards *= 2
    shard_size = room // shards // FD_PAGE * FD_PAGE
    # off and len are 16 bits of 16 octets: a shard of 1 MiB is the most they can reach.
    assert shard_size <= 1 << 20
    buckets = 1
    while buckets * 2 * FD_LINE <= shard_size // INDEX_SHARE:
        buckets *= 2
    return shards, shard_size, buckets


def cache_slots(size: int) -> int:
    """Slots in a cache of ``size`` octets: the length of a worker's hit figures."""
    shards, _, buckets = cache_geometry(size)
    return shards * buckets * FD_BUCKET_SLOTS


def create_cache(size: int) -> int:
    """A cache segment of ``size`` octets, empty, with a random hash key. Returns the descriptor."""
    shards, shard_size, buckets = cache_geometry(size)
    total = FD_PAGE + shards * shard_size
    fd = _allocate("cache", total)
    cdef _Mapped mapped = _Mapped(fd)
    cdef fd_cache_header_t *header = <fd_cache_header_t *>mapped.base
    cdef bytes key = os.urandom(16)      # the module secrets would bring OpenSSL into every process
    cdef bytes boot = boot_id()
    header.layout_version = FD_LAYOUT_VERSION
    header.shard_count = shards
    header.total_size = total
    header.shard_size = shard_size
    header.bucket_count = buckets
    header.geometry_sum = cache_geometry_sum(header)
    memcpy(header.hash_key, <const uint8_t *>key, 16)
    memcpy(header.boot_id, <const uint8_t *>boot, 16)
    header.time_ns_inode = time_namespace()
    header.magic = FD_MAGIC_CACHE
    return fd


def boot_id() -> bytes:
    """The 16 octets of this boot's ID; zeros where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def time_namespace() -> int:
    """Inode of this process's time namespace; 0 where there is none."""
    try:
        return os.stat("/proc/self/ns/time").st_ino
    except OSError:
        return 0


def _region_parts(questions: int, answers: int, pending: int, clients: int, slots: int,
                  tcp: int, series: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Offset and count of each part, and octets of the whole."""
    for name, value in (("questions", questions), ("answers", answers)):
        if value <= 0 or value & (value - 1):
            raise ValueError(f"{name} {value}: expected a power of two")
    sizes = (
        ("questions", questions, questions),
        ("answers", answers, answers),
        ("pending", pending, pending * sizeof(fd_pending_t)),
        ("clients", clients, clients * sizeof(fd_client_t)),
        ("batch", 1, sizeof(fd_batch_t)),
        ("hits", slots, slots * sizeof(uint16_t)),
        ("tcp", tcp, tcp),
        ("series", series, series * sizeof(fd_series_t)),
    )
    parts = {}
    end = _round_up(sizeof(fd_region_t), FD_LINE)
    for name, count, octets in sizes:
        parts[name] = (end, count)
        end = _round_up(end + octets, FD_LINE)
    return parts, _round_up(end, FD_PAGE)


def region_size(*, questions: int, answers: int, pending: int, clients: int, slots: int, tcp: int,
                series: int) -> int:
    """Octets of the region that ``create_region`` makes of these."""
    return _region_parts(questions, answers, pending, clients, slots, tcp, series)[1]


def create_region(index: int, *, questions: int = 64 * 1024, answers: int = 256 * 1024,
                  pending: int = 4096, clients: int = 8192, slots: int = 0,
                  tcp: int = 512 * 1024, series: int = 16) -> int:
    """A worker's region. Returns the descriptor.

    questions, answers: octets of ring data, powers of two; pending, clients: elements;
    slots: of the cache, see ``cache_slots``; tcp: octets of the TCP pool; series: pairs of
    listener and zone that are counted.
    """
    if not 0 <= index < FD_MAX_WORKERS:
        raise ValueError(f"worker {index}: expected 0 to {FD_MAX_WORKERS - 1}")
    parts, total = _region_parts(questions, answers, pending, clients, slots, tcp, series)
    fd = _allocate(f"worker-{index}", total)
    cdef _Mapped mapped = _Mapped(fd)
    cdef fd_region_t *region = <fd_region_t *>mapped.base
    region.layout_version = FD_LAYOUT_VERSION
    region.index = index
    region.total_size = total
    region.questions.off, region.questions.count = parts["questions"]
    region.answers.off, region.answers.count = parts["answers"]
    region.pending.off, region.pending.count = parts["pending"]
    region.clients.off, region.clients.count = parts["clients"]
    region.batch.off, region.batch.count = parts["batch"]
    region.hits.off, region.hits.count = parts["hits"]
    region.tcp.off, region.tcp.count = parts["tcp"]
    region.series.off, region.series.count = parts["series"]
    region.geometry_sum = region_geometry_sum(region)
    region.magic = FD_MAGIC_REGION
    return fd


def create_ledger() -> int:
    """Control's ledger, all zero. Returns the descriptor."""
    fd = _allocate("ledger", FD_PAGE)
    cdef _Mapped mapped = _Mapped(fd)
    cdef fd_ledger_t *ledger = <fd_ledger_t *>mapped.base
    ledger.layout_version = FD_LAYOUT_VERSION
    ledger.total_size = FD_PAGE
    ledger.magic = FD_MAGIC_LEDGER
    return fd


def create_log(name: str, octets: int) -> int:
    """A log ring with ``octets`` of data, a power of two. Returns the descriptor."""
    if octets <= 0 or octets & (octets - 1):
        raise ValueError(f"log ring of {octets} octets: expected a power of two")
    total = _round_up(sizeof(fd_log_t) + octets, FD_PAGE)
    fd = _allocate(f"log-{name}", total)
    cdef _Mapped mapped = _Mapped(fd)
    cdef fd_log_t *log = <fd_log_t *>mapped.base
    log.layout_version = FD_LAYOUT_VERSION
    log.octets = octets
    log.total_size = total
    log.magic = FD_MAGIC_LOG
    return fd


def create_post() -> int:
    """The coordinator's own segment. Returns the descriptor."""
    total = _round_up(sizeof(fd_post_t), FD_PAGE)
    fd = _allocate("coordinator", total)
    cdef _Mapped mapped = _Mapped(fd)
    cdef fd_post_t *post = <fd_post_t *>mapped.base
    post.layout_version = FD_LAYOUT_VERSION
    post.total_size = total
    post.magic = FD_MAGIC_POST
    return fd


def create_board(workers: int) -> int:
    """The keeper's board for ``workers`` workers. Returns the descriptor."""
    if not 1 <= workers <= FD_MAX_WORKERS:
        raise ValueError(f"{workers} workers: expected 1 to {FD_MAX_WORKERS}")
    total = _round_up(sizeof(fd_board_t), FD_PAGE)
    fd = _allocate("board", total)
    cdef _Mapped mapped = _Mapped(fd)
    cdef fd_board_t *board = <fd_board_t *>mapped.base
    cdef int i
    board.layout_version = FD_LAYOUT_VERSION
    board.child_count = workers + 2
    board.worker_count = workers
    board.keeper_pid = os.getpid()
    board.started_ms = boottime_ms()
    board.children[0].role = FD_ROLE_CONTROL
    board.children[1].role = FD_ROLE_COORDINATOR
    for i in range(workers):
        board.children[2 + i].role = FD_ROLE_WORKER
        board.children[2 + i].index = i
    board.magic = FD_MAGIC_BOARD
    return fd


def reopen_read_only(fd: int) -> int:
    """Another descriptor of the same memfd that can't be mapped for writing."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def now_ms() -> int:
    """CLOCK_BOOTTIME in ms, the clock of all times in shared memory."""
    return boottime_ms()


def identities(config: int) -> tuple[int, int, int]:
    """The uids of workers and coordinator and their gid, from a config descriptor; 0: stay as you are.

    For a child's first acts, before it maps anything. Raises RuntimeError on a foreign segment.
    """
    cdef uint64_t size = 0
    cdef void *base = map_segment(config, False, &size)
    cdef const fd_config_t *header = config_check(base, size)
    if header == NULL:
        raise RuntimeError("config: not a configuration of this version")
    result = (header.worker_uid, header.coordinator_uid, header.drop_gid)
    munmap(base, size)
    return result
