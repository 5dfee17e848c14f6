# SPDX-License-Identifier: Apache-2.0
# _posix.pxd: what the keeper's loop uses of the kernel beside _sys.pxd.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef struct siginfo_t:
        int si_pid
        int si_code
        int si_status
    int sigemptyset(sigset_t *mask)
    int sigaddset(sigset_t *mask, int number)
    int sigprocmask(int how, const sigset_t *mask, sigset_t *old)
    int kill(int pid, int number)
    enum:
        SIG_BLOCK, SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGKILL, CLD_EXITED

cdef extern from "<sys/signalfd.h>" nogil:
    struct signalfd_siginfo:
        uint32_t ssi_signo
    int signalfd(int fd, const sigset_t *mask, int flags)
    enum:
        SFD_CLOEXEC, SFD_NONBLOCK

cdef extern from "<sys/timerfd.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)
    enum:
        CLOCK_MONOTONIC, TFD_CLOEXEC, TFD_NONBLOCK

cdef extern from "<sys/wait.h>" nogil:
    int waitid(int kind, int pid, siginfo_t *info, int options)
    int waitpid(int pid, int *status, int options)
    enum:
        P_ALL, P_PID, WEXITED, WNOHANG, WNOWAIT

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int madvise(void *addr, size_t length, int advice)
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED, MADV_DONTFORK
    void *MAP_FAILED

cdef extern from "<sys/socket.h>" nogil:
    long recv(int fd, void *data, size_t octets, int flags)
    long send(int fd, const void *data, size_t octets, int flags)
    int shutdown(int fd, int how)
    enum:
        MSG_PEEK, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, SHUT_RDWR

cdef extern from "<unistd.h>" nogil:
    long read(int fd, void *data, size_t octets)
