/* SPDX-License-Identifier: Apache-2.0
 *
 * _buckets.h: numbers to the indexes of fd_series_t and fd_waits_t. CoreDNS's types and bounds; a
 * bucket holds what is at most its bound.
 */
#ifndef FASTDNS_BUCKETS_H
#define FASTDNS_BUCKETS_H

#include <stdint.h>

#include "_layout.h"

/* 1 more than the index; 0: `other`, which is the last. */
static const uint8_t fd_type_indexes[256] = {
    [1] = 1,    /* A */
    [28] = 2,   /* AAAA */
    [5] = 3,    /* CNAME */
    [48] = 4,   /* DNSKEY */
    [43] = 5,   /* DS */
    [65] = 6,   /* HTTPS */
    [15] = 7,   /* MX */
    [2] = 8,    /* NS */
    [47] = 9,   /* NSEC */
    [50] = 10,  /* NSEC3 */
    [12] = 11,  /* PTR */
    [46] = 12,  /* RRSIG */
    [6] = 13,   /* SOA */
    [33] = 14,  /* SRV */
    [16] = 15,  /* TXT */
    [255] = 16, /* ANY */
    [252] = 17, /* AXFR */
    [251] = 18, /* IXFR */
};

static inline uint32_t fd_type_index(uint32_t qtype)
{
    uint32_t known = qtype < 256 ? fd_type_indexes[qtype] : 0;
    return known ? known - 1 : FD_TYPES - 1;
}

static inline uint32_t fd_size_bucket(uint32_t octets)
{
    if (octets <= 511) {          /* 0, 100, 200, 300, 400, 511; a division by a constant is none */
        uint32_t hundreds = (octets + 99) / 100;
        return hundreds < 5 ? hundreds : 5;
    }
    if (octets <= 4095)
        return octets <= 1023 ? 6 : octets <= 2047 ? 7 : 8;
    if (octets <= 32000)
        return octets <= 8291 ? 9 : octets <= 16000 ? 10 : 11;
    return octets <= 48000 ? 12 : octets <= 64000 ? 13 : FD_SIZE_BUCKETS - 1;
}

/* 250 us * 2^k, k = 0..15, more */
static inline uint32_t fd_time_bucket(uint64_t us)
{
    uint64_t bound = 250;
    uint32_t k = 0;
    while (us > bound && k < FD_TIME_BUCKETS - 1) {
        bound *= 2;
        k++;
    }
    return k;
}

/* 10, 20, 50, 100 us ... 10 s, more */
static inline uint32_t fd_fine_bucket(uint64_t us)
{
    static const uint32_t bounds[FD_FINE_BUCKETS - 1] = {
        10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000,
        100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000,
    };
    uint32_t k = 0;
    while (k < FD_FINE_BUCKETS - 1 && us > bounds[k])
        k++;
    return k;
}

#endif
