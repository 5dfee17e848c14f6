# SPDX-License-Identifier: Apache-2.0
"""How much of each heavy check runs: the bounded count, and the full one of ``make full-...``.

The one table. FASTDNS_FULL=1 chooses the full column. A test asks ``count("writer_kills")``,
a makefile ``python -m tests.counts fuzz_packets``.
"""

import os
import sys
from typing import Final

# name: (bounded, full)
COUNTS: Final = {
    "chaos_seconds": (20, 300),  # of kills and stops at random
    "child_kills": (6, 60),  # of each role, under 20,000 queries/s
    "flood_packets": (200_000, 5_000_000),  # random packets at a running server
    "flushes": (3, 40),  # of a node's rules, under questions
    "fuzz_packets": (400_000, 20_000_000),  # into the parsers, with sanitizers
    "hypothesis_examples": (100, 5_000),  # of each property
    "keeper_restarts": (200, 1_000),  # of one child, by a keeper that is looked at for leaks
    "hypothesis_runs": (25, 1_000),  # of those whose every example is a process's life, or 50 steps
    "node_cycles": (3, 1_000),  # of start and SIGKILL on a node, which leave one set of rules
    "reader_seconds": (5, 120),  # of readers verifying while the writer evicts
    "reloads": (8, 500),  # under load
    "restarts_on_port": (4, 40),  # stop, and start at once on the same port
    "soak_seconds": (16, 300),
    "starved_seconds": (15, 600),  # without CPU time but for what others leave
    "starts": (7, 25),  # of which the median counts
    "stopped_children": (1, 10),  # SIGSTOP of each role, some 2 s each
    "touches": (5, 50),  # of a part of our rules on a node
    "writer_kills": (60, 1_000),
    "zone_stride": (23, 1),  # every n-th name, in the variants that aren't the common ones
}


def is_full() -> bool:
    """Whether the full counts were asked for."""
    return os.environ.get("FASTDNS_FULL") == "1"


def count(name: str) -> int:
    """The count of `name` in force; KeyError for a name that isn't in the table."""
    return COUNTS[name][is_full()]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(count(argument))
