# SPDX-License-Identifier: Apache-2.0
from fastdns.control.model import Config

MAX_LISTENERS: int
MAX_UPSTREAMS: int

def create_config(config: Config) -> int: ...
