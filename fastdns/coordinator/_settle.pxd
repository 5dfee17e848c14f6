# SPDX-License-Identifier: Apache-2.0
# _settle.pxd: the end of a round. nogil.
from fastdns.coordinator._state cimport coordinator_t

# Send what was put, and find other ways for the questions of channels that failed. After this
# nothing waits to be sent but what TCP didn't take.
cdef void settle(coordinator_t *c) noexcept nogil
