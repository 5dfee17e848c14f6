# SPDX-License-Identifier: Apache-2.0
from typing import TypedDict

COUNTERS: tuple[str, ...]
COUNTER_HELP: dict[str, str]
LEDGER: tuple[str, ...]

class Suspect(TypedDict):
    hash: int
    deaths: int
    until_ms: int

class Child(TypedDict):
    role: str
    index: int
    pid: int
    state: str
    restarts: int
    stuck: int
    started_ms: int
    died_ms: int
    last_status: int

class Board(TypedDict):
    pid: int
    workers: int
    started_ms: int
    ticks: int
    late_ticks: int
    addresses: int
    addresses_away: int
    address_trips: int
    address_returns: int
    children: list[Child]

class Region(TypedDict):
    index: int
    pid: int
    starts: int
    serving: int
    heartbeat: int
    pending: int
    pending_max: int
    clients: int
    clients_max: int
    tcp_connections: int
    tcp_blocks: int
    questions_used: int
    questions_max: int
    answers_used: int
    answers_max: int
    wait_hits: list[int]
    wait_hits_us: int
    wait_misses: list[int]
    wait_misses_us: int
    in_hand: int
    suspects: list[Suspect]
    counters: dict[str, int]

class Post(TypedDict):
    pid: int
    starts: int
    serving: int
    heartbeat: int
    generation: int
    inflight: int
    entries: int
    entry_octets: int
    swept: int
    upstream_wait_ms: list[int]
    in_hand: int
    thread_in_hand: int
    suspects: list[Suspect]
    counters: dict[str, int]

class Series(TypedDict):
    requests: list[list[int]]
    responses: list[list[int]]
    request_sizes: list[list[int]]
    request_octets: list[int]
    response_sizes: list[list[int]]
    response_octets: list[int]
    times: list[int]
    times_us: int
    do_requests: int
    cache_hits: list[int]
    cache_misses: int
    served_stale: int
    dns64_translated: int

class UpstreamSeries(TypedDict):
    times: list[list[int]]
    times_us: list[int]
    health_failures: int
    reused: list[int]
    dialed: list[int]

class BlockSeries(TypedDict):
    entries: list[int]
    evictions: list[int]
    prefetches: int
    drops: int
    template_matches: int

class LogState(TypedDict):
    octets: int
    used: int
    dropped: int

class Cache(TypedDict):
    size: int
    shards: int
    slots: int
    generation: int

class ConfigFacts(TypedDict):
    number: int
    workers: int
    listeners: list[tuple[str, int, int]]
    upstreams: list[tuple[str, int, int, bool]]
    tcp_connections: int
    edns_max: int
    worker_uid: int
    coordinator_uid: int
    gid: int
    fingerprints: list[int]

def read_board(fd: int) -> Board: ...
def read_region(fd: int) -> Region: ...
def read_post(fd: int) -> Post: ...
def read_series(fd: int) -> dict[int, Series]: ...
def read_post_series(fd: int) -> tuple[dict[int, UpstreamSeries], dict[int, BlockSeries]]: ...
def read_log(fd: int) -> LogState: ...
def read_cache(fd: int) -> Cache: ...
def read_config(fd: int) -> ConfigFacts: ...
def read_notes(fd: int) -> bytes: ...

class Ledger:
    def __init__(self, fd: int) -> None: ...
    def add(self, name: str, n: int = 1) -> None: ...
    def read(self) -> dict[str, int]: ...
