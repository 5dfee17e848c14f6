# SPDX-License-Identifier: Apache-2.0
"""The table of the differential suite: Corefiles and their queries, a file for each group of plugins."""

from tests.diff.cases import answers, cache, forward, hosts, rewrite, server, small, whole
from tests.diff.pairs import Case

CASES: tuple[Case, ...] = (
    *server.CASES,
    *small.CASES,
    *cache.CASES,
    *forward.CASES,
    *hosts.CASES,
    *rewrite.CASES,
    *answers.CASES,
    *whole.CASES,
)
