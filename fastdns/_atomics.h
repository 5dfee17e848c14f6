/* SPDX-License-Identifier: Apache-2.0
 *
 * _atomics.h: the only file that names a memory order.
 *
 * Three protocols use it: the cache's bucket sequence (one writer, many readers), the
 * single-producer single-consumer rings, and sleep/wake between ring ends. Each helper says
 * what it pairs with. Shared words are touched only through these helpers: a plain memcpy on
 * memory that another process writes is a data race even where x86 forgives it.
 *
 * What the bucket protocol promises: bytes copied between seq_begin and a seq_same that says
 * yes were all there at one instant. What it does not promise: progress (a writer that never
 * rests makes readers give up, which callers count as a miss).
 */
#ifndef FASTDNS_ATOMICS_H
#define FASTDNS_ATOMICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock free: they cross processes");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock free: they cross processes");

#define FD_A32(p) ((_Atomic uint32_t *)(uintptr_t)(p))
#define FD_A64(p) ((_Atomic uint64_t *)(uintptr_t)(p))
#define FD_A16(p) ((_Atomic uint16_t *)(uintptr_t)(p))
#define FD_A8(p) ((_Atomic uint8_t *)(uintptr_t)(p))

/* ---- plain shared words: one writer, any reader, no order with other memory ---- */
static inline uint16_t fd_load16(const void *p) { return atomic_load_explicit(FD_A16(p), memory_order_relaxed); }
static inline uint32_t fd_load32(const void *p) { return atomic_load_explicit(FD_A32(p), memory_order_relaxed); }
static inline uint64_t fd_load64(const void *p) { return atomic_load_explicit(FD_A64(p), memory_order_relaxed); }
static inline void fd_store16(void *p, uint16_t v) { atomic_store_explicit(FD_A16(p), v, memory_order_relaxed); }
static inline void fd_store32(void *p, uint32_t v) { atomic_store_explicit(FD_A32(p), v, memory_order_relaxed); }
static inline void fd_store64(void *p, uint64_t v) { atomic_store_explicit(FD_A64(p), v, memory_order_relaxed); }

/* Add to a counter that only this process writes: load, add, store, no locked instruction. */
static inline void fd_count(uint64_t *p, uint64_t n) { fd_store64(p, fd_load64(p) + n); }

/* ---- publish and acquire: what stands before the release is seen after the acquire ---- */
static inline uint32_t fd_acquire32(const void *p) { return atomic_load_explicit(FD_A32(p), memory_order_acquire); }
static inline void fd_release32(void *p, uint32_t v) { atomic_store_explicit(FD_A32(p), v, memory_order_release); }
static inline uint64_t fd_acquire64(const void *p) { return atomic_load_explicit(FD_A64(p), memory_order_acquire); }
static inline void fd_release64(void *p, uint64_t v) { atomic_store_explicit(FD_A64(p), v, memory_order_release); }

/* ---- bucket sequence, reader: begin, copy with fd_copy_out, then ask seq_same ---- */
static inline uint32_t fd_seq_begin(const uint32_t *seq)            /* pairs with fd_seq_end */
{
    return fd_acquire32(seq);
}
static inline int fd_seq_same(const uint32_t *seq, uint32_t begun)  /* pairs with the fence in fd_seq_open */
{
    atomic_thread_fence(memory_order_acquire);
    return fd_load32(seq) == begun;
}

/* ---- bucket sequence, writer: open (odd), change with fd_copy_in or fd_store*, close (even).
 *      open and close both fence towards what follows, so that memory freed by clearing a slot
 *      may be written as soon as close has returned. ---- */
static inline void fd_seq_open(uint32_t *seq)
{
    fd_store32(seq, fd_load32(seq) + 1);
    atomic_thread_fence(memory_order_release);
}
static inline void fd_seq_close(uint32_t *seq)
{
    fd_release32(seq, fd_load32(seq) + 1);
    atomic_thread_fence(memory_order_release);
}

/* Copy from memory that a writer may be changing; both 8-aligned, n rounded up to 8. */
static inline void fd_copy_out(void *to, const void *from, size_t n)
{
    uint64_t *d = (uint64_t *)to;
    const uint64_t *s = (const uint64_t *)from;
    for (size_t i = 0; i < (n + 7) / 8; i++)
        d[i] = fd_load64(s + i);
}
/* The same from `off` octets behind an 8-aligned `from`, to anywhere; n octets exactly. The words
 * that hold the first and the last octet are read whole. */
static inline void fd_copy_out_at(void *to, const void *from, size_t off, size_t n)
{
    unsigned char *d = (unsigned char *)to;
    const uint64_t *s = (const uint64_t *)from + off / 8;
    size_t skip = off % 8, i;
    uint64_t word;
    if (skip != 0 && n != 0) {
        size_t first = n < 8 - skip ? n : 8 - skip;
        word = fd_load64(s++);
        memcpy(d, (const unsigned char *)&word + skip, first);
        d += first;
        n -= first;
    }
    for (i = 0; i < n / 8; i++, d += 8) {
        word = fd_load64(s + i);
        memcpy(d, &word, 8);
    }
    if (n % 8 != 0) {
        word = fd_load64(s + i);
        memcpy(d, &word, n % 8);
    }
}
/* Copy into memory that readers may be copying; both 8-aligned, n rounded up to 8. */
static inline void fd_copy_in(void *to, const void *from, size_t n)
{
    uint64_t *d = (uint64_t *)to;
    const uint64_t *s = (const uint64_t *)from;
    for (size_t i = 0; i < (n + 7) / 8; i++)
        fd_store64(d + i, s[i]);
}

/* ---- sleep and wake: store-then-load on both sides needs a full fence on both sides,
 *      or each may miss what the other stored, on x86 too. ---- */
static inline void fd_announce_sleep(uint32_t *sleeping)            /* then look at the ring once more */
{
    fd_store32(sleeping, 1);
    atomic_thread_fence(memory_order_seq_cst);
}
static inline int fd_must_wake(const uint32_t *sleeping)            /* after publishing */
{
    atomic_thread_fence(memory_order_seq_cst);
    return fd_load32(sleeping) != 0;
}

#endif
