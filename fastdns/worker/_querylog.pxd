# SPDX-License-Identifier: Apache-2.0
# _querylog.pxd: records for CoreDNS's `log`, into the worker's ring to control. nogil; never waits.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport fd_local_t, fd_query_t, sockaddr_in6
from fastdns.worker._state cimport worker_t

# Who asked, and when.
ctypedef struct asker_t:
    const sockaddr_in6 *peer     # or a sockaddr_in
    const fd_local_t *local
    uint64_t arrived_us
    uint16_t zone                # number
    uint16_t request_size        # octets
    uint8_t listener
    uint8_t tcp

# What was replied.
ctypedef struct replied_t:
    uint16_t flags               # header's second 16 bits; 0: no plugin wrote anything
    uint16_t rcode               # extended
    uint16_t size                # octets, without OPT, truncation and compression
    uint16_t edns_max            # `bufsize`; 0: none
    uint8_t entry_kind           # FD_ENTRY_*; 0: there was none

# Put a record. The ring is full: it is dropped and counted.
#   query     all but qname, which is taken from
#   question  as the client wrote it
cdef void log_query(worker_t *worker, const asker_t *asker, const fd_query_t *query,
                    const uint8_t *question, const replied_t *replied) noexcept nogil
