/* SPDX-License-Identifier: Apache-2.0
 *
 * _debug.h: the question that kills, for the tests of deaths and quarantine. Debug builds only
 * (FASTDNS_DEBUG, set by setup.py): a release has no such question.
 */
#ifndef FASTDNS_COORDINATOR_DEBUG_H
#define FASTDNS_COORDINATOR_DEBUG_H

#include <stdint.h>

#ifdef FASTDNS_DEBUG

#include <stdlib.h>
#include <string.h>

/* Names that begin with the labels crash.fastdns end the process, with hang.fastdns its progress. */
static inline void fd_debug_question(const uint8_t *qname, uint32_t qname_len)
{
    static const uint8_t crash[] = "\5crash\7fastdns", hang[] = "\4hang\7fastdns";
    if (qname_len >= sizeof crash - 1 && memcmp(qname, crash, sizeof crash - 1) == 0)
        abort();
    if (qname_len >= sizeof hang - 1 && memcmp(qname, hang, sizeof hang - 1) == 0)
        for (;;)
            __asm__ volatile("");
}

/* Names that begin with the labels late.fastdns end the process when they are to be asked again. */
static inline void fd_debug_silence(const uint8_t *qname, uint32_t qname_len)
{
    static const uint8_t late[] = "\4late\7fastdns";
    if (qname_len >= sizeof late - 1 && memcmp(qname, late, sizeof late - 1) == 0)
        abort();
}

#else

static inline void fd_debug_question(const uint8_t *qname, uint32_t qname_len)
{
    (void)qname;
    (void)qname_len;
}

static inline void fd_debug_silence(const uint8_t *qname, uint32_t qname_len)
{
    (void)qname;
    (void)qname_len;
}

#endif
#endif
