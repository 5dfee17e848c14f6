# SPDX-License-Identifier: Apache-2.0
# _loop.pxd: the coordinator's rounds. nogil.
from fastdns.coordinator._state cimport coordinator_t

# Announce this coordinator to the workers and serve until post.stop is set and nothing is in
# flight, or STOP_MS have passed since. Never takes the GIL, never allocates.
cdef void loop_run(coordinator_t *c) noexcept nogil
