# SPDX-License-Identifier: Apache-2.0
"""What a process does to itself: a child at its birth (child.py), the keeper at its own.

In C where Python has the same: each page that a child writes to is a page of its own, and the
signal module alone, with its enums, writes to 300 KiB of what it shared with the keeper.
"""

import os

from libc.errno cimport errno

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    enum:
        PR_SET_CHILD_SUBREAPER
        PR_SET_NO_NEW_PRIVS
        PR_SET_PDEATHSIG

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef void (*handler_t)(int)
    struct sigaction_t "sigaction":
        handler_t sa_handler
    int sigaction(int number, const sigaction_t *new, sigaction_t *old)
    int sigemptyset(sigset_t *mask)
    int sigprocmask(int how, const sigset_t *mask, sigset_t *old)
    enum:
        NSIG, SIGINT, SIGKILL, SIGPIPE, SIGSTOP, SIG_SETMASK
    handler_t SIG_DFL
    handler_t SIG_IGN

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    long sysconf(int name)
    long syscall(long number, ...)
    enum:
        _SC_OPEN_MAX

cdef extern from *:
    """
    #include <sys/syscall.h>
    #ifndef SYS_close_range            /* the same number on every architecture; Linux 5.9 */
    #define SYS_close_range 436
    #endif
    """
    enum:
        SYS_close_range


def reset_signals() -> None:
    """Default handlers and nothing blocked; what is pending is dropped. SIGPIPE stays ignored."""
    cdef sigaction_t action
    cdef sigset_t nothing
    cdef int number
    for number in range(1, NSIG):
        if number == SIGKILL or number == SIGSTOP or sigaction(number, NULL, &action) != 0:
            continue
        # Ignoring a signal discards it where it is pending.
        action.sa_handler = SIG_IGN
        sigaction(number, &action, NULL)
        if number != SIGPIPE:
            action.sa_handler = SIG_DFL
            sigaction(number, &action, NULL)
    sigemptyset(&nothing)
    sigprocmask(SIG_SETMASK, &nothing, NULL)


cdef void close_between(int first, int last) noexcept nogil:
    if first > last or syscall(SYS_close_range, <unsigned int>first, <unsigned int>last, 0) == 0:
        return
    # A kernel without the call. The keeper bounds the limit, so that this is short.
    cdef int fd
    cdef long limit = sysconf(_SC_OPEN_MAX)
    for fd in range(first, last + 1):
        if fd >= limit:
            return
        close(fd)


def close_others(keep: set[int]) -> None:
    """Close every descriptor but 0, 1, 2 and those in ``keep``."""
    cdef int first = 3
    cdef int fd
    for fd in sorted(keep):
        if fd >= first:
            close_between(first, fd - 1)
            first = fd + 1
    close_between(first, 0x7fffffff - 1)


def set_no_new_privs() -> None:
    """No exec of this process gains privileges from now on. Raises OSError."""
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(errno, f"PR_SET_NO_NEW_PRIVS: {os.strerror(errno)}")


def set_parent_death_signal(unsigned long number) -> None:
    """Have the kernel send signal ``number`` when the parent dies. Raises OSError.

    A change of uid clears it, and a parent that died before the call is not noticed: the
    caller compares its parent's PID afterwards.
    """
    if prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(errno, f"PR_SET_PDEATHSIG: {os.strerror(errno)}")


cdef extern from *:
    """
    #include <malloc.h>
    #ifdef __GLIBC__
    #define fd_trim() ((void)malloc_trim(0))
    #else
    #define fd_trim() ((void)0)
    #endif
    """
    void fd_trim() noexcept nogil


def become_subreaper() -> None:
    """Have orphans among our descendants given to us, as PID 1 has them. Raises OSError."""
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(errno, f"PR_SET_CHILD_SUBREAPER: {os.strerror(errno)}")


def trim_memory() -> None:
    """Give free memory in the midst of the heap back to the kernel, where the C library can do that."""
    fd_trim()
