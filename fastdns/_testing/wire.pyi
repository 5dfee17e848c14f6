# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

DEFAULT_KEY: bytes

def name_length(data: bytes) -> int: ...
def name_fold_hash(name: bytes, extra: int = 0, key: bytes = ...) -> tuple[int, bytes]: ...
def key_extra(group: int, variant: int, key_flags: int, qtype: int, qclass: int) -> int: ...
def lower_word(word: int) -> int: ...
def siphash(data: bytes, key: bytes = ...) -> int: ...
def name_same(a: bytes, b: bytes) -> bool: ...
def name_skip(msg: bytes, pos: int) -> tuple[int, int]: ...
def name_expand(msg: bytes, pos: int) -> bytes: ...

@dataclass(frozen=True)
class Query:
    rc: int
    key_hash: int
    id: bytes
    flags: int
    qtype: int
    qclass: int
    udp_size: int
    group: int
    variant: int
    key_flags: int
    edns: int
    qname_len: int
    qname: bytes

def parse(packet: bytes, key: bytes = ..., group: int = 0, variant: int = 0) -> Query: ...
def bench_parse(packet: bytes, n: int) -> float: ...
def bench_hash(name: bytes, n: int) -> float: ...

class Entry:
    def __init__(
        self,
        records: bytes,
        ttl_off: list[int],
        counts: tuple[int, int, int],
        *,
        msg_flags: int = 0,
        kind: int = 1,
        ext_rcode: int = 0,
        stored_ms: int = 0,
        ttl_s: int = 3600,
        stale_ttl_s: int = 30,
        stale_mark: int = 0,
        records_avail: int | None = None,
        ttl_avail: int | None = None,
    ) -> None: ...

def compose(entry: Entry, packet: bytes, limit: int, now_ms: int = 0) -> bytes: ...
def error(packet: bytes, rcode: int, ede: int = 0xFFFF) -> bytes: ...
def bench_compose(entry: Entry, packet: bytes, limit: int, now_ms: int, n: int) -> float: ...

@dataclass(frozen=True)
class Response:
    rc: int
    id: bytes
    flags: int
    ancount: int
    nscount: int
    arcount: int
    rcode: int
    records_off: int
    records_end: int
    opt_off: int
    opt_len: int
    opt_size: int
    opt_do: int
    kind: int
    has_soa: int
    compressed: int
    min_ttl: int
    soa_ttl: int
    soa_minimum: int
    plain_len: int
    ttl_off: tuple[int, ...]

def parse_answer(msg: bytes) -> Response: ...
def matches(msg: bytes, qname: bytes, qtype: int, qclass: int) -> bool: ...
def compress(msg: bytes) -> tuple[bytes, list[int]]: ...
def bench_parse_answer(msg: bytes, n: int) -> float: ...
def bench_compress(msg: bytes, n: int) -> float: ...
