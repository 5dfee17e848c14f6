# SPDX-License-Identifier: Apache-2.0
"""Stale answers: what the Corefile says of them, and what a block does where it says nothing."""

import pytest

from fastdns.control.config.compile import compile_corefile
from fastdns.control.config.load import parse_corefile
from fastdns.control.config.numbering import Numbers
from fastdns.control.model import Block

HOUR, WAIT, TTL, RECHECK = 3600, 200, 30, 30_000
OFF = 0


def block_of(*lines: str, keys: str = ".", settings: str = "", to: str = "192.0.2.53") -> Block:
    body = "\n".join((*lines, f"forward . {to}"))
    text = f"{keys} {{\nbind 127.0.0.1\n{body}\n}}\n" + (f"fastdns {{\n{settings}\n}}\n" if settings else "")
    compiled = compile_corefile(parse_corefile(text, "Corefile", {}), Numbers(), worker_count=1)
    (block,) = compiled.config.blocks
    assert block is not None
    return block


def times(block: Block) -> tuple[int, int, int, int]:
    return block.stale_s, block.stale_wait_ms, block.stale_ttl_s, block.recheck_ms


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", (HOUR, 0, 0, RECHECK)),
        ("2h", (2 * HOUR, 0, 0, RECHECK)),
        ("0s", (OFF, 0, 0, RECHECK)),
        ("1h immediate", (HOUR, 0, 0, RECHECK)),
        ("1h immediate 30s", (HOUR, 0, 30, RECHECK)),
        ("1h immediate 30s 5s", (HOUR, 0, 30, 5000)),
        ("1h IMMEDIATE 0s 0s", (HOUR, 0, 0, 0)),
        ("1h verify", (HOUR, 4500, 0, RECHECK)),
        ("1h verify 0 30s", (HOUR, 4500, 30, RECHECK)),
        ("1h verify 100ms", (HOUR, 100, 0, RECHECK)),
        ("1h verify 100ms 30s 500ms", (HOUR, 100, 30, 500)),
        ("1h verify 60s", (HOUR, 4500, 0, RECHECK)),
        ("1h verify 100ms 30s 300s", (HOUR, 100, 30, 300_000)),
        ("1h verify 100ms 100h 1h", (HOUR, 100, 65_535, 300_000)),
        ("500ms", (1, 0, 0, RECHECK)),
        ("2562047h", (2**32 - 1, 0, 0, RECHECK)),
    ],
)
def test_serve_stale(said: str, expected: tuple[int, int, int, int]) -> None:
    """As CoreDNS has it; but its failure recheck timer runs where none is said."""
    assert times(block_of("cache {", f"serve_stale {said}", "}")) == expected
    assert times(block_of("cache {", f"serve_stale {said}", "}", keys="cluster.local")) == expected


def test_without_a_word_names_outside_the_cluster_have_it() -> None:
    """RFC 8767's numbers; on by default."""
    assert times(block_of("cache")) == (HOUR, WAIT, TTL, RECHECK)
    assert times(block_of("cache 30", keys="example.com")) == (HOUR, WAIT, TTL, RECHECK)


@pytest.mark.parametrize("keys", ["cluster.local", "in-addr.arpa", "cluster.local:53 x.test:5353"])
def test_the_cluster_s_names_do_not(keys: str) -> None:
    """pain 5: no positive answer past its TTL."""
    assert block_of("cache", keys=keys).stale_s == OFF


@pytest.mark.parametrize(
    ("zones", "keys", "stale_s"),
    [
        ("corp.test", "corp.test", OFF),
        ("corp.test", "a.corp.test", OFF),
        ("corp.test", "a.corp.test b.test", HOUR),
        ("corp.test", ".", HOUR),
        ("corp.test", "cluster.local", HOUR),
        (".", ".", OFF),
        ("10.0.0.0/8", "1.10.in-addr.arpa", OFF),
        ("", "cluster.local", HOUR),
    ],
)
def test_cluster_zones(zones: str, keys: str, stale_s: int) -> None:
    """They count, and whom their names are forwarded to doesn't."""
    assert block_of("cache", keys=keys, settings=f"cluster_zones {zones}").stale_s == stale_s


def test_settings() -> None:
    assert times(block_of("cache", settings="stale 10m\nstale_wait 50ms")) == (600, 50, TTL, RECHECK)
    assert block_of("cache", settings="stale 0").stale_s == OFF
    said = block_of("cache {", "serve_stale 2h verify 1s", "}", settings="stale 10m")
    assert times(said)[:2] == (2 * HOUR, 1000)


def test_a_block_that_keeps_nothing_has_nothing_stale() -> None:
    assert block_of().stale_s == OFF


def test_the_policy() -> None:
    assert not block_of("cache").prefer_positive
    assert block_of("cache {", "serve_stale", "serve_stale_policy PREFER_positive", "}").prefer_positive
    assert block_of("cache {", "serve_stale_policy prefer_positive", "}").prefer_positive


def test_another_text_is_another_block() -> None:
    """An entry carries its own stale times: what was made under others is of no use."""
    texts = {block_of("cache").text, block_of("cache", settings="stale 0").text,
             block_of("cache {", "serve_stale", "}").text}  # fmt: skip
    assert len(texts) == 3
