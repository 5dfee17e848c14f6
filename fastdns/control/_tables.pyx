# SPDX-License-Identifier: Apache-2.0
"""From the typed configuration to the segment that the data plane reads. SHM_LAYOUT"""

import fcntl
import os
import socket

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._shm cimport (
    FD_LAYOUT_VERSION,
    FD_MAGIC_CONFIG,
    FD_MAX_LISTENERS,
    FD_MAX_UPSTREAMS,
    fd_block_t,
    fd_config_t,
    sockaddr_in,
    sockaddr_in6,
)

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t value)

MAX_LISTENERS = FD_MAX_LISTENERS
MAX_UPSTREAMS = FD_MAX_UPSTREAMS


cdef void write_address(sockaddr_in6 *out, endpoint) except *:
    cdef sockaddr_in *inet = <sockaddr_in *>out
    cdef bytes packed = socket.inet_pton(endpoint.family, endpoint.host)
    memset(out, 0, sizeof(sockaddr_in6))
    if endpoint.family == socket.AF_INET:
        inet.sin_family = <uint16_t>socket.AF_INET
        inet.sin_port = htons(endpoint.port)
        memcpy(&inet.sin_addr, <const uint8_t *>packed, 4)
    else:
        out.sin6_family = <uint16_t>socket.AF_INET6
        out.sin6_port = htons(endpoint.port)
        out.sin6_scope_id = endpoint.scope_id
        memcpy(&out.sin6_addr, <const uint8_t *>packed, 16)


cdef uint64_t fingerprint(str text) except *:
    # FNV-1a: tells the entries of one block's text from another's; nobody gains from a collision.
    cdef uint64_t total = <uint64_t>0xcbf29ce484222325
    cdef uint8_t octet
    for octet in text.encode():
        total = (total ^ octet) * <uint64_t>0x100000001b3
    return total


cdef void write_block(fd_block_t *out, config) except *:
    block = config.block
    out.fingerprint = fingerprint(block.text(config.upstreams))
    out.number = block.number
    out.caching = block.caching
    out.uniform_ttl = block.uniform_ttl
    out.ttl_min_s = block.ttl_min_s
    out.ttl_max_s = block.ttl_max_s
    out.negative_min_s = block.negative_min_s
    out.negative_max_s = block.negative_max_s
    out.failure_s = block.failure_s
    out.stale_s = block.stale_s
    out.first_upstream = 0
    out.upstream_count = len(config.upstreams)


def create_config(config) -> int:
    """A sealed segment with this configuration, opened read-only. Returns the descriptor.

    config: a model.Config. Raises ValueError, OSError.
    """
    cdef fd_config_t out
    cdef int i
    if not 0 < len(config.listeners) <= FD_MAX_LISTENERS:
        raise ValueError(f"{len(config.listeners)} listeners: expected 1 to {FD_MAX_LISTENERS}")
    if not 0 < len(config.upstreams) <= FD_MAX_UPSTREAMS:
        raise ValueError(f"{len(config.upstreams)} upstreams: expected 1 to {FD_MAX_UPSTREAMS}")
    memset(&out, 0, sizeof(out))
    out.magic = FD_MAGIC_CONFIG
    out.layout_version = FD_LAYOUT_VERSION
    out.number = config.number
    out.worker_count = config.worker_count
    out.listener_count = len(config.listeners)
    out.upstream_count = len(config.upstreams)
    limits = config.limits
    out.tcp_connections = limits.tcp_connections
    out.tcp_first_ms = limits.tcp_first_ms
    out.tcp_idle_ms = limits.tcp_idle_ms
    out.tcp_slow_ms = limits.tcp_slow_ms
    out.edns_max = limits.edns_max
    out.client_deadline_ms = limits.client_deadline_ms
    out.question_deadline_ms = limits.question_deadline_ms
    out.retry_floor_ms = limits.retry_floor_ms
    out.worker_uid = config.identity.worker_uid
    out.coordinator_uid = config.identity.coordinator_uid
    out.drop_gid = config.identity.gid
    write_block(&out.block, config)
    for i, endpoint in enumerate(config.listeners):
        write_address(&out.listeners[i].address, endpoint)
        # One implicit block listens everywhere: all listeners give the same answers.
        out.listeners[i].group = 0
        out.listeners[i].wildcard = endpoint.wildcard
    for i, upstream in enumerate(config.upstreams):
        write_address(&out.upstreams[i].address, upstream.endpoint)
        out.upstreams[i].force_tcp = upstream.force_tcp
    return _seal(<bytes>(<char *>&out)[:sizeof(out)])


def _seal(data: bytes) -> int:
    fd = os.memfd_create("fastdns-config", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS,
                    fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        # Kernels before 6.7 refuse a shared mapping of a write-sealed file through a writable descriptor.
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
