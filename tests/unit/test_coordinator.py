# SPDX-License-Identifier: Apache-2.0
"""The whole coordinator in a process of its own, between workers' rings and upstreams on loopback."""

from tests.coordtools import Upstream, world


def test_first() -> None:
    with Upstream() as up, world(up) as w:
        answer = w.ask("www.example.")
        print(answer.message())
        assert answer.ttls() == [300]
        w.stop()
