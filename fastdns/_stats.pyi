# SPDX-License-Identifier: Apache-2.0
from typing import TypedDict

COUNTERS: tuple[str, ...]
COUNTER_HELP: dict[str, str]

class InHand(TypedDict):
    hash: int
    suspect: int
    deaths: int

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
    in_hand: InHand
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
    in_hand: InHand
    counters: dict[str, int]

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
def read_cache(fd: int) -> Cache: ...
def read_config(fd: int) -> ConfigFacts: ...
