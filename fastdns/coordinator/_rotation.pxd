# SPDX-License-Identifier: Apache-2.0
# _rotation.pxd: which records of an answer may change places on the wire (_rotate.pxd). nogil.
from fastdns._shm cimport fd_entry_t

# Find the run of a finished entry (its records and TTL offsets are whole, its names were checked by
# parse_response) and note it in rotate_off, rotate_len, rotate_count; all 0 where there is none.
# For answers of a zone with FD_ZONE_ROTATE, before they are stored or handed on.
cdef void rotate_find(fd_entry_t *entry) noexcept nogil
