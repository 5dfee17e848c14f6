# SPDX-License-Identifier: Apache-2.0
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
    def recover(self) -> tuple[str, int, bytes] | None: ...
    def run(self) -> None: ...
