# SPDX-License-Identifier: Apache-2.0
class Region:
    def __init__(self, fd: int) -> None: ...
    def series(self, number: int, field: str, row: int = 0, column: int = 0, n: int = 1) -> None: ...
    def wait(self, hit: bool, bucket: int, us: int) -> None: ...
    def beat(self) -> None: ...
    def start(self) -> None: ...
    def count(self, counter: int, n: int = 1) -> None: ...

class Post:
    def __init__(self, fd: int) -> None: ...
    def upstream(
        self,
        number: int,
        rcode: int = 0,
        bucket: int = 0,
        us: int = 0,
        reused: int = -1,
        dialed: int = -1,
        health_failures: int = 0,
    ) -> None: ...
    def block(self, number: int, field: str, column: int = 0, n: int = 1) -> None: ...

class Log:
    def __init__(self, fd: int) -> None: ...
    def query(
        self,
        qname: bytes,
        *,
        peer: str = ...,
        port: int = ...,
        zone: int = ...,
        id: int = ...,
        query_flags: int = ...,
        reply_flags: int = ...,
        rcode: int = ...,
        qtype: int = ...,
        qclass: int = ...,
        request_size: int = ...,
        reply_size: int = ...,
        udp_size: int = ...,
        listener: int = ...,
        tcp: bool = ...,
        edns: int = ...,
        entry_kind: int = ...,
        duration_us: int = ...,
        time_ms: int = ...,
        local: str | None = ...,
    ) -> bool: ...
    def error(
        self,
        qname: bytes,
        kind: int,
        *,
        zone: int = ...,
        rcode: int = ...,
        qtype: int = ...,
        upstream: int = ...,
        error: int = ...,
        tcp: bool = ...,
        text: bytes = ...,
        time_ms: int = ...,
    ) -> bool: ...
    def raw(self, octets: bytes, kind: int) -> bool: ...
