# SPDX-License-Identifier: Apache-2.0
# _hosts.pxd: answers that are made here: from the table of `hosts`, NODATA, the client's own address.
# nogil, no allocation.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_family_t, fd_hosts_t, fd_question_client_t
from fastdns.coordinator._state cimport coordinator_t, question_t

ctypedef enum hosts_rc:
    HOSTS_PASS = 0               # the next step's
    HOSTS_ANSWER = 1
    HOSTS_FAIL = 2               # unknown, and nobody else is to be asked: SERVFAIL

# What the table has for a question. HOSTS_ANSWER: a message in `out` (MESSAGE_MAX octets), its length
# in `octets`.
cdef hosts_rc hosts_answer(const coordinator_t *c, const fd_hosts_t *hosts, const question_t *question,
                           const uint8_t *qname, uint8_t *out, uint32_t *octets) noexcept nogil

# NODATA for a type that the names of a zone have not got, with an SOA of that zone (RFC 2308 s2.2).
# Returns the message's length.
cdef uint32_t family_answer(const fd_family_t *family, const question_t *question, const uint8_t *qname,
                            uint8_t *out) noexcept nogil

# Whether hosts_answer would be anything but HOSTS_PASS.
cdef bint hosts_speaks(const coordinator_t *c, const fd_hosts_t *hosts, const question_t *question,
                       const uint8_t *qname) noexcept nogil

# What `whoami` answers: the client's address, and its port and protocol as SRV. Returns the message's
# length.
cdef uint32_t whoami_answer(const fd_question_client_t *client, const question_t *question,
                            const uint8_t *qname, uint8_t *out) noexcept nogil
