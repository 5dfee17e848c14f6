# SPDX-License-Identifier: Apache-2.0
from fastdns.coordinator._queue import SlowQueue

def needs_thread(config: int) -> bool: ...

class Coordinator:
    def __init__(
        self,
        config: int,
        cache: int,
        post: int,
        wake: int,
        log: int,
        regions: list[int],
        wake_workers: list[int],
    ) -> None: ...
    def recover(self) -> list[tuple[str, int, bytes]]: ...
    def programs(self) -> list[tuple[int, int, bytes]]: ...
    def open_queue(self) -> SlowQueue: ...
    def run(self) -> None: ...
