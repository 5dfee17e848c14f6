# SPDX-License-Identifier: Apache-2.0
# _probe.pxd: whether an upstream sends questions back here (`loop`). nogil; memory is taken once.
from libc.stdint cimport uint8_t, uint32_t

from fastdns.coordinator._state cimport coordinator_t, question_t

cdef enum:
    PROBES = 128                 # pairs of block and upstream that are looked at
    PROBE_BACK_MS = 5000         # a question that goes round is back within this
    PROBE_AGAIN_MS = 30000       # an upstream that sent one back is tried again after this

# A probe for each upstream of each block with `loop`. False: no memory.
cdef bint probes_open(coordinator_t *c) noexcept nogil

# A new flight that is to be asked now of flight.upstream alone: a name that nobody else knows. NONE:
# no probe is due. Judges those that were not seen again, too.
cdef uint32_t probe_next(coordinator_t *c) noexcept nogil

# Whether a question is one of ours that came back; its upstream is then left alone by that block.
cdef bint probe_returned(coordinator_t *c, const question_t *question, const uint8_t *qname) noexcept nogil
