/* SPDX-License-Identifier: Apache-2.0
 *
 * _crash.h: the questions that kill, for the tests of deaths and quarantine. Debug builds only
 * (FASTDNS_DEBUG, set by setup.py): a release has no such question.
 *
 *   crash.fastdns     the coordinator takes the question
 *   hang.fastdns      likewise, and ends its progress
 *   response.fastdns  the coordinator reads upstream's response
 *   late.fastdns      the coordinator is about to ask again
 *   thread.fastdns    the coordinator's Python thread works on the question
 *   packet.fastdns    a worker parses the packet
 *   reply.fastdns     a worker composes a reply from an answer
 */
#ifndef FASTDNS_CRASH_H
#define FASTDNS_CRASH_H

#include <stdint.h>

#ifdef FASTDNS_DEBUG

#include <stdlib.h>
#include <string.h>

static inline int fd_debug_named(const char *label, const uint8_t *qname, uint32_t qname_len)
{
    uint32_t n = (uint32_t)strlen(label);
    return qname_len > n + 8 && qname[0] == n && memcmp(qname + 1, label, n) == 0
           && memcmp(qname + 1 + n, "\7fastdns", 8) == 0;
}

/* Names that begin with the labels `label`.fastdns end the process. */
static inline void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len)
{
    if (fd_debug_named(label, qname, qname_len))
        abort();
}

/* Names that begin with the labels hang.fastdns end its progress. */
static inline void fd_debug_hang(const uint8_t *qname, uint32_t qname_len)
{
    if (fd_debug_named("hang", qname, qname_len))
        for (;;)
            __asm__ volatile("");
}

#else

static inline void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len)
{
    (void)label;
    (void)qname;
    (void)qname_len;
}

static inline void fd_debug_hang(const uint8_t *qname, uint32_t qname_len)
{
    (void)qname;
    (void)qname_len;
}

#endif
#endif
