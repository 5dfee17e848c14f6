# SPDX-License-Identifier: Apache-2.0
"""The sweep that follows a new configuration: what it would not have answered so goes from the cache.

For each entry the zone is chosen again by its name. An entry stays where the same zone leads to a block of the
same text; not where a table had its part in it (FD_ENTRY_CHANGED), a `hosts` knows its name now, or nobody serves its
group any more. Piece by piece, between questions; workers get the configuration when all is done, so none of them
answers from before.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from fastdns._shm cimport (
    FD_ENTRY_CHANGED,
    FD_ENTRY_QNAME_OFF,
    FD_STEP_HOSTS,
    fd_at,
    fd_block,
    fd_block_t,
    fd_entry_t,
    fd_hosts_t,
    fd_load32,
    fd_step_t,
    fd_store32,
    fd_zone_t,
)
from fastdns._zones cimport zone_at, zone_find
from fastdns.coordinator._hosts cimport hosts_speaks
from fastdns.coordinator._state cimport coordinator_t, question_t
from fastdns.coordinator._store cimport AGREE_DONE, AGREE_MORE, agree_rc, store_agree


cdef bint is_hosted(const coordinator_t *c, const fd_block_t *block, const fd_entry_t *entry) noexcept nogil:
    # A file's contents are no part of its block's text. What rewrites came to a table by another name is
    # FD_ENTRY_CHANGED.
    cdef const fd_step_t *steps = <const fd_step_t *>fd_at(c.config, block.steps.off)
    cdef question_t question
    cdef uint32_t i
    memset(&question, 0, sizeof(question))
    question.qtype = entry.qtype
    question.qname_len = entry.qname_len
    for i in range(block.steps.count):
        if steps[i].kind == FD_STEP_HOSTS and hosts_speaks(
                c, <const fd_hosts_t *>fd_at(c.config, steps[i].argument), &question,
                <const uint8_t *>entry + FD_ENTRY_QNAME_OFF):
            return True
    return False


cdef bint entry_survives(const coordinator_t *c, const fd_entry_t *entry) noexcept nogil:
    return not entry.marks & FD_ENTRY_CHANGED and not is_hosted(
        c, fd_block(c.config, zone_at(c.config, entry.zone).block), entry)


cdef bint agrees(const void *context, const fd_entry_t *entry) noexcept nogil:
    cdef const coordinator_t *c = <const coordinator_t *>context
    cdef const uint8_t *qname = <const uint8_t *>entry + FD_ENTRY_QNAME_OFF
    cdef uint32_t number = zone_find(c.config, entry.group, qname, entry.qname_len, entry.qtype)
    cdef const fd_zone_t *zone = zone_at(c.config, number)
    return (zone != NULL and number == entry.zone and zone.fingerprint == entry.fingerprint
            and entry_survives(c, entry))


cdef bint sweep_step(coordinator_t *c) noexcept nogil:
    cdef agree_rc rc
    if fd_load32(&c.post.swept) == c.config.number:
        return False
    rc = store_agree(c.store, agrees, c)
    if rc == AGREE_DONE:
        fd_store32(&c.post.swept, c.config.number)
    return rc == AGREE_MORE
