# SPDX-License-Identifier: Apache-2.0
# _memory.pxd: private memory of a process, taken at its start. nogil.

cdef extern from * nogil:
    """
    #include <stdlib.h>
    #include <string.h>

    /* The compiler turns malloc and memset to 0 into calloc, whose pages are not there until
     * they are written: it must not see that these two belong together. */
    static inline void *fd_take(size_t octets, int value)
    {
        void *memory = malloc(octets);
        __asm__ volatile("" : "+r"(memory) : : "memory");
        return memory ? memset(memory, value, octets) : NULL;
    }

    static inline void *fd_reserve(size_t octets) { return calloc(octets, 1); }
    """
    # Memory filled with `value`, or NULL. Touched now, not under load: what doesn't fit the cgroup
    # has to show at the start. Given back by free.
    void *fd_take(size_t octets, int value) noexcept
    # The same, zeros, but a page is there only once it is written: for tables that are used from the
    # front, and to their end only in a storm. The budget counts them whole.
    void *fd_reserve(size_t octets) noexcept
