# SPDX-License-Identifier: Apache-2.0
"""From the typed configuration to the segment that the data plane reads. SHM_LAYOUT"""

import array
import fcntl
import ipaddress
import json
import math
import os
import socket
import struct

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._shm cimport (
    FD_BLOCK_ERRORS,
    FD_BLOCK_KEEP_TTL,
    FD_BLOCK_LOOP,
    FD_BLOCK_CUT,
    FD_BLOCK_CUT_LEARN,
    FD_BLOCK_PREFER_POSITIVE,
    FD_FORWARD_CHECK_NO_RD,
    FD_FORWARD_FAILFAST,
    FD_FORWARD_NODATA_NEXT,
    FD_FORWARD_UPSTREAMS,
    FD_GROUP_ANY_CLASS,
    FD_GROUP_FAMILY,
    FD_LAYOUT_VERSION,
    FD_MAGIC_CONFIG,
    FD_MATCH_EXACT,
    FD_MATCH_PREFIX,
    FD_MATCH_SUBSTRING,
    FD_MATCH_SUFFIX,
    FD_MAX_BLOCKS,
    FD_MAX_LISTENERS,
    FD_MAX_PREFERRED,
    FD_MAX_SERIES,
    FD_MAX_UPSTREAMS,
    FD_MAX_ZONES,
    FD_NO_HOST,
    FD_NO_SERIES,
    FD_NO_ZONE,
    FD_POLICY_FASTEST,
    FD_POLICY_RANDOM,
    FD_POLICY_ROUND_ROBIN,
    FD_POLICY_SEQUENTIAL,
    FD_STEP_CLASS,
    FD_STEP_FORWARD,
    FD_STEP_HOSTS,
    FD_STEP_NAME,
    FD_STEP_RCODE,
    FD_STEP_RULE,
    FD_STEP_SLOW,
    FD_STEP_STOP,
    FD_STEP_TTL,
    FD_STEP_TYPE,
    FD_STEP_FAMILY,
    FD_STEP_WHOAMI,
    FD_ZONE_CACHE,
    FD_ZONE_CLIENT,
    FD_ZONE_FAMILY,
    FD_ZONE_LOG,
    FD_ZONE_METRICS,
    FD_ZONE_REFUSED,
    FD_ZONE_ROTATE,
    FD_ZONE_USED,
    fd_block_t,
    fd_config_t,
    fd_family_t,
    fd_forward_t,
    fd_host_t,
    fd_hosts_t,
    fd_network_t,
    fd_part_t,
    fd_rule_t,
    fd_slow_t,
    fd_step_t,
    fd_zone_t,
    sockaddr_in,
    sockaddr_in6,
)
from fastdns._zones cimport zone_hash

from fastdns.control.model import FamilyStep, Forward, HostsStep, NameStep, ReplyStep, SlowStep, TypeStep, WhoamiStep
from fastdns.control.wirename import wire_labels, wire_name
from fastdns.proto import Option

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t value)

MAX_LISTENERS = FD_MAX_LISTENERS
MAX_UPSTREAMS = FD_MAX_UPSTREAMS
MAX_FORWARD_UPSTREAMS = FD_FORWARD_UPSTREAMS
MAX_ZONES = FD_MAX_ZONES
MAX_BLOCKS = FD_MAX_BLOCKS
MAX_PREFERRED = FD_MAX_PREFERRED
MAX_SERIES = FD_MAX_SERIES


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


def _wire_names(names) -> bytes:
    return b"".join(map(wire_name, names))


cdef class _Segment:
    """The octets of a configuration: room for the header, then what is put, each at a multiple of 8."""

    cdef bytearray data
    cdef dict texts
    cdef int forwards            # so many so far

    def __cinit__(self):
        self.data = bytearray(sizeof(fd_config_t))
        self.texts = {}
        self.forwards = 0

    cdef uint32_t put(self, bytes content) except 0:
        """Append. Returns the offset."""
        self.data.extend(bytes((8 - len(self.data) % 8) % 8))
        offset = len(self.data)
        self.data.extend(content)
        return <uint32_t>offset

    cdef uint32_t text(self, bytes content) except 0:
        """As put, but the same text stands there once."""
        if content not in self.texts:
            self.texts[content] = self.put(content)
        return self.texts[content]

    cdef fd_part_t names(self, names) except *:
        cdef fd_part_t part
        cdef bytes content = _wire_names(names)
        part.off = self.text(content) if content else 0
        part.count = <uint32_t>len(content)
        return part

    cdef fd_part_t part(self, list elements) except *:
        cdef fd_part_t part
        part.off = self.put(b"".join(elements))
        part.count = <uint32_t>len(elements)
        return part


cdef bytes zone_of(_Segment segment, one, blocks, uint16_t next):
    cdef fd_zone_t zone
    cdef bytes name
    memset(&zone, 0, sizeof(zone))
    zone.next = next
    if one is not None:
        name = wire_name(one.name)
        zone.fingerprint = fingerprint(blocks[one.block].text)
        zone.name_off = segment.text(name)
        zone.name_len = <uint8_t>len(name)
        zone.group = one.group
        zone.block = one.block
        zone.edns_max = one.edns_max
        zone.flags = <uint16_t>(
            FD_ZONE_USED
            | (FD_ZONE_REFUSED if one.refused else 0)
            | (FD_ZONE_FAMILY if one.by_family else 0)
            | (FD_ZONE_CLIENT if one.by_client else 0)
            | (FD_ZONE_CACHE if blocks[one.block].caching else 0)
            | (FD_ZONE_ROTATE if one.rotate else 0)
            | (FD_ZONE_LOG if one.log else 0)
            | (FD_ZONE_METRICS if one.metrics else 0)
        )
    return <bytes>(<char *>&zone)[:sizeof(zone)]


cdef void write_zones(_Segment segment, fd_config_t *out, config) except *:
    cdef bytes name
    cdef uint32_t head
    cdef uint32_t heads_count = 4
    while heads_count < 2 * len(config.zones):
        heads_count *= 2
    heads = array.array("H", [FD_NO_ZONE]) * heads_count
    rows = []
    for number, one in enumerate(config.zones):
        following = FD_NO_ZONE
        if one is not None:
            name = wire_name(one.name)
            head = zone_hash(one.group, <const uint8_t *>name, <uint32_t>len(name)) & (heads_count - 1)
            following, heads[head] = heads[head], number
            out.zone_depth = max(out.zone_depth, <uint32_t>len(wire_labels(one.name)))
        rows.append(zone_of(segment, one, config.blocks, following))
    out.zones = segment.part(rows)
    out.zone_heads.off = segment.put(heads.tobytes())
    out.zone_heads.count = heads_count


_POLICIES = {
    "sequential": FD_POLICY_SEQUENTIAL,
    "random": FD_POLICY_RANDOM,
    "round_robin": FD_POLICY_ROUND_ROBIN,
    "fastest": FD_POLICY_FASTEST,
}


def _bits(numbers) -> int:
    return sum({1 << number for number in numbers})


def _at_most(value) -> int:
    return min(value, 0xffffffff)


cdef bytes forward_of(_Segment segment, step):
    cdef fd_forward_t forward
    cdef bytes name = wire_name(step.zone)
    cdef bytes excepted = _wire_names(step.except_)
    cdef bytes checked = wire_name(step.check.name)
    cdef int i
    memset(&forward, 0, sizeof(forward))
    if len(step.upstreams) > FD_FORWARD_UPSTREAMS:
        raise ValueError(f"{len(step.upstreams)} upstreams: expected at most {FD_FORWARD_UPSTREAMS}")
    forward.name_off = segment.text(name)
    forward.name_len = <uint8_t>len(name)
    forward.except_off = segment.text(excepted) if excepted else 0
    forward.except_len = len(excepted)
    forward.upstream_count = <uint8_t>len(step.upstreams)
    for i, number in enumerate(step.upstreams):
        forward.upstreams[i] = number
    forward.number = <uint16_t>segment.forwards
    segment.forwards += 1
    forward.policy = _POLICIES[step.policy]
    forward.flags = <uint8_t>((FD_FORWARD_NODATA_NEXT if step.next_on_nodata else 0)
                              | (FD_FORWARD_FAILFAST if step.failfast else 0)
                              | (0 if step.check.recursion else FD_FORWARD_CHECK_NO_RD))
    forward.next_rcodes = _bits(step.next_rcodes)
    forward.failover_rcodes = _bits(step.failover_rcodes)
    forward.max_fails = _at_most(step.max_fails)
    forward.max_attempts = _at_most(step.max_attempts)
    forward.max_concurrent = _at_most(step.max_concurrent)
    forward.read_timeout_ms = _at_most(math.ceil(step.read_timeout_s * 1000))
    forward.check_ms = _at_most(math.ceil(step.check.interval_s * 1000))
    forward.check_off = segment.text(checked)
    forward.check_len = <uint8_t>len(checked)
    return <bytes>(<char *>&forward)[:sizeof(forward)]


cdef bytes rule_of(_Segment segment, step):
    """A rule of `rewrite`, of any of its forms."""
    cdef fd_rule_t rule
    cdef bytes from_text = b""
    cdef bytes to_text = b""
    memset(&rule, 0, sizeof(rule))
    if isinstance(step, NameStep):
        from_text, to_text = _text(step.from_), _text(step.to)
        rule.automatic = step.automatic
    else:
        rule.from_ = step.from_
        rule.to = step.to
    if isinstance(step, ReplyStep):
        from_text = _text(step.name)
    if not isinstance(step, TypeStep):
        rule.match = _MATCHES[step.match]
        rule.from_off = segment.text(from_text)
        rule.from_len = <uint16_t>len(from_text)
    if to_text:
        rule.to_off = segment.text(to_text)
        rule.to_len = <uint16_t>len(to_text)
    return <bytes>(<char *>&rule)[:sizeof(rule)]


cdef bytes family_of(_Segment segment, step):
    cdef fd_family_t family
    cdef bytes name = wire_name(step.zone)
    memset(&family, 0, sizeof(family))
    family.name_off = segment.text(name)
    family.name_len = <uint8_t>len(name)
    family.except_ = segment.names(step.except_)
    family.qtype = step.qtype
    return <bytes>(<char *>&family)[:sizeof(family)]


cdef bytes host_of(_Segment segment, bytes name, record, uint32_t next):
    cdef fd_host_t host
    cdef bytes data = b"".join(record.inet4 + record.inet6) + _wire_names(record.pointers)
    memset(&host, 0, sizeof(host))
    host.name_off = segment.put(name)
    host.name_len = <uint8_t>len(name)
    host.next = next
    host.data_off = segment.put(data)
    host.v4_count = len(record.inet4)
    host.v6_count = len(record.inet6)
    host.ptr_count = len(record.pointers)
    return <bytes>(<char *>&host)[:sizeof(host)]


cdef bytes hosts_of(_Segment segment, step):
    """The table of a `hosts`: an open hash by name, as zones have it."""
    cdef fd_hosts_t hosts
    cdef bytes name
    cdef uint32_t head
    cdef uint32_t heads_count = 4
    memset(&hosts, 0, sizeof(hosts))
    while heads_count < len(step.names):
        heads_count *= 2
    heads = array.array("I", [FD_NO_HOST]) * heads_count
    rows = []
    for number, (text, record) in enumerate(step.names.items()):
        name = wire_name(text)
        head = zone_hash(0, <const uint8_t *>name, <uint32_t>len(name)) & (heads_count - 1)
        rows.append(host_of(segment, name, record, heads[head]))
        heads[head] = number
    hosts.heads.off = segment.put(heads.tobytes())
    hosts.heads.count = heads_count
    hosts.names = segment.part(rows)
    hosts.zones = segment.names(step.zones)
    hosts.through = segment.names(step.through)
    hosts.ttl_s = step.ttl_s
    return <bytes>(<char *>&hosts)[:sizeof(hosts)]


cdef bytes program_of(_Segment segment, step):
    cdef fd_slow_t slow
    cdef bytes content = step.program.encode()
    cdef bytes option
    memset(&slow, 0, sizeof(slow))
    slow.program.off = segment.put(content)
    slow.program.count = <uint32_t>len(content)
    if step.told is not None:
        code, text = step.told
        option = struct.pack("!HHH", Option.EDE, 2 + len(text.encode()), code) + text.encode()
        slow.told.off = segment.put(option)
        slow.told.count = <uint32_t>len(option)
    return <bytes>(<char *>&slow)[:sizeof(slow)]


_MATCHES = {
    "exact": FD_MATCH_EXACT,
    "prefix": FD_MATCH_PREFIX,
    "suffix": FD_MATCH_SUFFIX,
    "substring": FD_MATCH_SUBSTRING,
}
_KINDS = {
    Forward: FD_STEP_FORWARD,
    HostsStep: FD_STEP_HOSTS,
    FamilyStep: FD_STEP_FAMILY,
    NameStep: FD_STEP_NAME,
    WhoamiStep: FD_STEP_WHOAMI,
    SlowStep: FD_STEP_SLOW,
}
_WHATS = {"type": FD_STEP_TYPE, "class": FD_STEP_CLASS, "ttl": FD_STEP_TTL, "rcode": FD_STEP_RCODE}


def _text(str name) -> bytes:
    # The octets of a name that is no UTF-8 came in as surrogates.
    return name.encode(errors="surrogateescape")


cdef fd_part_t steps_of(_Segment segment, steps) except *:
    cdef fd_step_t out
    rows = []
    for number, step in enumerate(steps):
        memset(&out, 0, sizeof(out))
        out.number = number
        if isinstance(step, Forward):
            content = forward_of(segment, step)
        elif isinstance(step, HostsStep):
            content = hosts_of(segment, step)
        elif isinstance(step, FamilyStep):
            content = family_of(segment, step)
        elif isinstance(step, (NameStep, TypeStep, ReplyStep)):
            content = rule_of(segment, step)
        elif isinstance(step, SlowStep):
            content = program_of(segment, step)
        else:
            content = b""
        out.kind = _WHATS[step.what] if isinstance(step, (TypeStep, ReplyStep)) else _KINDS[type(step)]
        if isinstance(step, (NameStep, TypeStep, ReplyStep)):
            out.flags = <uint8_t>(FD_STEP_RULE | (FD_STEP_STOP if step.stop else 0))
        if content:
            out.argument = segment.put(content)
        rows.append(<bytes>(<char *>&out)[:sizeof(out)])
    return segment.part(rows)


cdef bytes network_of(str text):
    cdef fd_network_t network
    parsed = ipaddress.ip_network(text)
    cdef bytes address = parsed.network_address.packed
    memset(&network, 0, sizeof(network))
    memcpy(network.address, <const uint8_t *>address, len(address))
    network.octets = <uint8_t>len(address)
    network.bits = parsed.prefixlen
    return <bytes>(<char *>&network)[:sizeof(network)]


cdef bytes block_of(_Segment segment, int number, block):
    cdef fd_block_t out
    memset(&out, 0, sizeof(out))
    out.number = <uint16_t>number
    if block is not None:
        out.fingerprint = fingerprint(block.text)
        out.caching = block.caching
        out.uniform_ttl = block.uniform_ttl
        out.ttl_min_s = block.ttl_min_s
        out.ttl_max_s = block.ttl_max_s
        out.negative_min_s = block.negative_min_s
        out.negative_max_s = block.negative_max_s
        out.failure_s = block.failure_s
        out.stale_s = block.stale_s
        out.recheck_ms = block.recheck_ms
        out.stale_wait_ms = block.stale_wait_ms
        out.stale_ttl_s = block.stale_ttl_s
        out.capacity[0], out.capacity[1] = block.capacity
        out.steps = steps_of(segment, block.steps)
        out.cached = segment.names(block.cached)
        for i in range(2):
            out.disabled[i] = segment.names(block.disabled[i])
        out.preferred = segment.part([network_of(one) for one in block.preferred])
        out.slow_limit = block.slow_limit
        out.prefetch_hits = block.prefetch_hits
        out.prefetch_percent = block.prefetch_percent
        out.flags = <uint16_t>((FD_BLOCK_KEEP_TTL if block.keep_ttl else 0)
                               | (FD_BLOCK_ERRORS if block.errors else 0)
                               | (FD_BLOCK_LOOP if block.loop else 0)
                               | (FD_BLOCK_CUT if block.cut else 0)
                               | (FD_BLOCK_CUT_LEARN if block.cut_learn else 0)
                               | (FD_BLOCK_PREFER_POSITIVE if block.prefer_positive else 0))
    return <bytes>(<char *>&out)[:sizeof(out)]


cdef fd_part_t series_of(_Segment segment, config) except *:
    cdef fd_part_t part
    width = len(config.zones) + 1
    rows = array.array("H", [FD_NO_SERIES]) * (width * len(config.listeners))
    for listener, zone, number in config.series:
        rows[listener * width + (width - 1 if zone is None else zone)] = number
    part.off = segment.put(rows.tobytes())
    part.count = <uint32_t>len(rows)
    return part


cdef void write_listeners(fd_config_t *out, config) except *:
    cdef int i
    out.listener_count = len(config.listeners)
    for i, listener in enumerate(config.listeners):
        if listener is None:
            continue
        write_address(&out.listeners[i].address, listener.endpoint)
        out.listeners[i].group = listener.group
        out.listeners[i].wildcard = listener.endpoint.wildcard
        out.listeners[i].flags = <uint8_t>((FD_GROUP_ANY_CLASS if listener.any_class else 0)
                                           | (FD_GROUP_FAMILY if listener.by_family else 0))
        out.listeners[i].tcp_first_ms = listener.tcp_first_ms
        out.listeners[i].tcp_idle_ms = listener.tcp_idle_ms
        out.listeners[i].tcp_queries = min(listener.tcp_queries, 0xffffffff)


cdef bytes tls_of(upstream):
    """What coordinator/tls.py needs to know of a server."""
    tls = upstream.tls
    spec = {"name": tls.name, "ca": tls.ca, "cert": tls.cert, "key": tls.key}
    if upstream.source is not None:
        spec["source"] = upstream.source.sockaddr
    return json.dumps({"address": upstream.endpoint.sockaddr, **spec}).encode()


cdef bytes source_of(upstream):
    """The address that its sockets are bound to, as bind takes it."""
    cdef sockaddr_in6 address
    write_address(&address, upstream.source)
    if upstream.source.family == socket.AF_INET:
        return (<char *>&address)[:sizeof(sockaddr_in)]
    return (<char *>&address)[:sizeof(sockaddr_in6)]


cdef void write_upstreams(_Segment segment, fd_config_t *out, config) except *:
    cdef int i
    cdef bytes tls, source
    out.upstream_count = len(config.upstreams)
    for i, upstream in enumerate(config.upstreams):
        if upstream is not None:
            write_address(&out.upstreams[i].address, upstream.endpoint)
            out.upstreams[i].force_tcp = upstream.force_tcp
            out.upstreams[i].max_idle = min(upstream.max_idle, 255)
            out.upstreams[i].expire_ms = min(round(upstream.expire_s * 1000), 0xffffffff)
            out.upstreams[i].max_age_ms = min(round(upstream.max_age_s * 1000), 0xffffffff)
            if upstream.tls is not None:
                tls = tls_of(upstream)
                out.upstreams[i].tls.off = segment.put(tls)
                out.upstreams[i].tls.count = <uint32_t>len(tls)
            if upstream.source is not None:
                source = source_of(upstream)
                out.upstreams[i].source.off = segment.put(source)
                out.upstreams[i].source.count = <uint32_t>len(source)


cdef void write_scalars(fd_config_t *out, config) except *:
    limits = config.limits
    listeners = [one for one in config.listeners if one is not None]
    out.magic = FD_MAGIC_CONFIG
    out.layout_version = FD_LAYOUT_VERSION
    out.number = config.number
    out.worker_count = config.worker_count
    out.tcp_connections = limits.tcp_connections
    out.tcp_first_ms = min((one.tcp_first_ms for one in listeners), default=0)
    out.tcp_idle_ms = min((one.tcp_idle_ms for one in listeners), default=0)
    out.tcp_slow_ms = limits.tcp_slow_ms
    out.edns_max = limits.edns_max
    out.client_deadline_ms = limits.client_deadline_ms
    out.question_deadline_ms = limits.question_deadline_ms
    out.retry_floor_ms = limits.retry_floor_ms
    out.worker_uid = config.identity.worker_uid
    out.coordinator_uid = config.identity.coordinator_uid
    out.drop_gid = config.identity.gid


def create_config(config) -> int:
    """A sealed segment with this configuration, opened read-only. Returns the descriptor.

    config: a model.Config. Raises ValueError where it has too much of something, OSError.
    """
    cdef fd_config_t out
    cdef _Segment segment = _Segment()
    for what, count, most in (
        ("listeners", len(config.listeners), FD_MAX_LISTENERS),
        ("upstreams", len(config.upstreams), FD_MAX_UPSTREAMS),
        ("zones", len(config.zones), FD_MAX_ZONES),
        ("blocks", len(config.blocks), FD_MAX_BLOCKS),
        ("series", len(config.series), FD_MAX_SERIES),
    ):
        if count > most:
            raise ValueError(f"{count} {what}: expected at most {most}")
    memset(&out, 0, sizeof(out))
    write_scalars(&out, config)
    write_listeners(&out, config)
    write_upstreams(segment, &out, config)
    write_zones(segment, &out, config)
    out.blocks = segment.part([block_of(segment, i, block) for i, block in enumerate(config.blocks)])
    out.series = series_of(segment, config)
    out.notes.off = segment.put(config.notes)
    out.notes.count = len(config.notes)
    out.total_size = len(segment.data)
    segment.data[:sizeof(out)] = <bytes>(<char *>&out)[:sizeof(out)]
    return _seal(bytes(segment.data))


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
