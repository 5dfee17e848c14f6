# SPDX-License-Identifier: Apache-2.0
from fastdns._testing.cache import Store

class Sweep:
    swept: int
    place: int
    buckets: int
    store: Store
    def __init__(self, store: Store, config: int) -> None: ...
    def step(self) -> bool: ...
