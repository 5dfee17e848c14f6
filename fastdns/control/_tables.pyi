# SPDX-License-Identifier: Apache-2.0
from fastdns.control.model import Config

MAX_LISTENERS: int
MAX_UPSTREAMS: int
MAX_FORWARD_UPSTREAMS: int
MAX_ZONES: int
MAX_BLOCKS: int
MAX_PREFERRED: int
MAX_SERIES: int

def wire_name(name: str) -> bytes: ...
def create_config(config: Config) -> int: ...
