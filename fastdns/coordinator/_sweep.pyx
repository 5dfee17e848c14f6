# SPDX-License-Identifier: Apache-2.0
"""The sweep that follows a new configuration: what it would not have answered so goes from the cache.

For each entry the zone is chosen again by its name. An entry stays where the same zone leads to a block of the
same text; not where a table had its part in it (FD_ENTRY_CHANGED), or nobody serves its group any more. Piece by
piece, between questions; workers get the configuration when all is done, so none of them answers from before.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport FD_ENTRY_CHANGED, FD_ENTRY_QNAME_OFF, fd_entry_t, fd_load32, fd_store32, fd_zone_t
from fastdns._zones cimport zone_at, zone_find
from fastdns.coordinator._state cimport coordinator_t
from fastdns.coordinator._store cimport AGREE_DONE, AGREE_MORE, agree_rc, store_agree


cdef bint agrees(const void *context, const fd_entry_t *entry) noexcept nogil:
    cdef const coordinator_t *c = <const coordinator_t *>context
    cdef const uint8_t *qname = <const uint8_t *>entry + FD_ENTRY_QNAME_OFF
    cdef uint32_t number = zone_find(c.config, entry.group, qname, entry.qname_len, entry.qtype)
    cdef const fd_zone_t *zone = zone_at(c.config, number)
    return (zone != NULL and number == entry.zone and zone.fingerprint == entry.fingerprint
            and not entry.marks & FD_ENTRY_CHANGED)


cdef bint sweep_step(coordinator_t *c) noexcept nogil:
    cdef agree_rc rc
    if fd_load32(&c.post.swept) == c.config.number:
        return False
    rc = store_agree(c.store, agrees, c)
    if rc == AGREE_DONE:
        fd_store32(&c.post.swept, c.config.number)
    return rc == AGREE_MORE
