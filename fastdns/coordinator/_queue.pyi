# SPDX-License-Identifier: Apache-2.0
from typing import TypeAlias

Client: TypeAlias = tuple[str, int, str, int, bool]
Job: TypeAlias = tuple[int, int, int, int, int, bytes, int, int, int, int, int, Client | None, bytes]

class SlowQueue:
    def wait(self, timeout_ms: int) -> bool: ...
    def wake(self) -> None: ...
    def take(self) -> Job | None: ...
    def put(
        self,
        kind: int,
        job: Job,
        qname: bytes = ...,
        qtype: int = ...,
        qclass: int = ...,
        rcode: int = ...,
        options: bytes = ...,
        flags: int = ...,
        plugin: int = ...,
        message: bytes = ...,
    ) -> bool: ...
