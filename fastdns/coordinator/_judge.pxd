# SPDX-License-Identifier: Apache-2.0
# _judge.pxd: what a response is worth: the answer made of it, whether it may be kept, for how
# long. nogil, no allocation, no clock, no state.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._compress cimport compress_room_t
from fastdns._response cimport response_t
from fastdns._shm cimport fd_block_t, fd_entry_t
from fastdns.coordinator._state cimport question_t

# Where an answer comes from, and what the block's text says about names like its own.
ctypedef struct source_t:
    const fd_block_t *block
    uint16_t zone                # number
    uint8_t plugin               # FD_PLUGIN_*: what made it
    uint8_t marks                # FD_ENTRY_*
    uint8_t keep                 # KEEP_*
    uint16_t told                # as in fd_entry_t

cdef enum:                       # source_t.keep
    KEEP_POSITIVE = 1            # answers with records may be stored
    KEEP_NEGATIVE = 2            # NXDOMAIN, NODATA, failures
    KEEP_OUTSIDE = 4             # the block's `cache` is not for this name: as if it had none

ctypedef enum judge_rc:
    JUDGE_UNUSABLE = -1          # its records can't be taken over: counts as malformed
    JUDGE_HAND_ON = 0            # for those who wait, and for nobody else
    JUDGE_STORE = 1

cdef enum:
    COMPRESS_FROM = 512          # octets: an uncompressed message over this is compressed
    BARE_TTL_S = 5               # a referral or an empty answer in a block with `cache`, as CoreDNS has it
    UNIFORM_TTL_MAX_S = 3600     # in such a block, whatever its text says: CoreDNS's own ceiling

# Make the answer of a response whose question is `question`.
#   msg, response   the message and what parse_response said of it
#   entry           caller's, FD_ENTRY_MAX octets, 8-aligned: whole unless JUDGE_UNUSABLE,
#                   but for slot_ref
# The rules, by response_kind (RFC 2308, 2181, 9520; in a block with `uniform_ttl` node-cache's):
#   ANSWER              stored for its lowest TTL, clamped to the block's limits
#   NODATA, NXDOMAIN    with SOA: stored for min(SOA's TTL, MINIMUM), clamped to the negative
#                       limits, and for no longer than its other records; without: handed on
#   REFERRAL, EMPTY     handed on; uniform_ttl: stored for BARE_TTL_S
#   FAILURE             SERVFAIL and NOTIMP: stored for failure_s; other rcodes: handed on
# Handed on in any case: TC, a lifetime of 0, FD_Q_ALONE, meta types (RFC 6895 s3.1) but ANY,
# a block without caching, what `keep` rules out.
cdef judge_rc judge(const source_t *source, const question_t *question, const uint8_t *qname,
                    const uint8_t *msg, const response_t *response, uint64_t now_ms,
                    compress_room_t *room, fd_entry_t *entry) noexcept nogil

# The same of a question that nobody answered: SERVFAIL without records, stored for failure_s.
#   response   caller's, overwritten
cdef judge_rc judge_silence(const source_t *source, const question_t *question, const uint8_t *qname,
                            uint64_t now_ms, response_t *response, fd_entry_t *entry) noexcept nogil

# A reply without records and with this rcode, for those who wait and for nobody else. It is of no
# zone: none took the question, or its block has nothing that answers.
cdef void judge_none(const question_t *question, const uint8_t *qname, uint16_t rcode, uint64_t now_ms,
                     fd_entry_t *entry) noexcept nogil
