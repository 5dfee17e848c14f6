# SPDX-License-Identifier: Apache-2.0
"""Which of nftables' notifications are about us, and whose sockets are ours."""

import os
import random
import signal
import socket
import struct
from pathlib import Path

import pytest

from fastdns.control.node import listening, nfnetlink, watch
from fastdns.control.node.check import judge, lines, summary
from fastdns.control.node.listening import foreign_listeners
from fastdns.control.node.model import Held
from fastdns.control.node.survey import Survey

NEWTABLE, DELTABLE, NEWCHAIN, NEWRULE, DELRULE, NEWSETELEM, DELSETELEM, NEWGEN = 0, 2, 3, 6, 8, 12, 14, 15
LOCAL, SERVICE = "169.254.20.10", "10.43.0.10"


def message(kind: int, *attributes: tuple[int, bytes], subsystem: int = 10, family: int = 2) -> bytes:
    body = bytes((family, 0, 0, 0))
    for number, value in attributes:
        padded = value + b"\0" * (-len(value) % 4)
        body += struct.pack("=HH", 4 + len(value), number) + padded
    return struct.pack("=IHHII", 16 + len(body), subsystem << 8 | kind, 0, 1, 2) + body


def rule(kind: int, table: bytes, chain: bytes) -> bytes:
    return message(kind, (1, table + b"\0"), (2, chain + b"\0"), (3, bytes(8)))


def table(kind: int, name: bytes, family: int = 2) -> bytes:
    return message(kind, (1, name + b"\0"), family=family)


END = message(NEWGEN)
NONE, SOME, OURS, GONE = watch.Change
ELEMENT = ((1, b"fastdns\0"), (2, b"fallback\0"))


@pytest.mark.parametrize(
    ("data", "change"),
    [
        (table(DELTABLE, b"fastdns"), GONE),
        (table(DELTABLE, b"filter"), SOME),
        (table(DELTABLE, b"kube-proxy"), NONE),
        (table(NEWTABLE, b"kube-proxy"), SOME),  # younger than ours
        (table(NEWTABLE, b"fastdns"), NONE),
        (table(DELTABLE, b"fastdns") + table(NEWTABLE, b"fastdns"), NONE),
        (table(DELTABLE, b"fastdns") + table(NEWTABLE, b"fastdns", family=10), GONE),
        (table(NEWTABLE, b"fastdns") + table(DELTABLE, b"fastdns"), NONE),  # there was none
        (table(NEWTABLE, b"fastdns") + table(DELTABLE, b"fastdns") + table(NEWTABLE, b"fastdns"), NONE),
        (table(DELTABLE, b"fastdns") + table(NEWTABLE, b"fastdns") + table(DELTABLE, b"fastdns"), GONE),
        (message(DELSETELEM, *ELEMENT), OURS),
        (message(DELSETELEM, *ELEMENT) + message(NEWSETELEM, *ELEMENT), NONE),  # renewed
        (message(DELSETELEM, *ELEMENT) + message(NEWSETELEM, *ELEMENT, family=10), OURS),
        (message(NEWSETELEM, *ELEMENT) + message(DELSETELEM, *ELEMENT), OURS),
        (message(DELSETELEM, *ELEMENT) + table(DELTABLE, b"fastdns") + table(NEWTABLE, b"fastdns"), NONE),
        (rule(NEWRULE, b"fastdns", b"notrack-output"), NONE),
        (rule(DELRULE, b"fastdns", b"notrack-output"), OURS),
        (rule(DELRULE, b"fastdns", b"x") + table(DELTABLE, b"fastdns"), GONE),
        (rule(DELRULE, b"fastdns", b"x") + table(DELTABLE, b"fastdns") + table(NEWTABLE, b"fastdns"), NONE),
        (rule(NEWRULE, b"filter", b"INPUT"), SOME),
        (rule(DELRULE, b"filter", b"OUTPUT"), SOME),
        (rule(NEWRULE, b"filter", b"KUBE-FIREWALL"), NONE),
        (rule(NEWRULE, b"nat", b"KUBE-SVC-TCOU7JCQXEZGVUNU"), NONE),
        (message(NEWCHAIN, (1, b"filter\0"), (3, b"INPUT\0")), SOME),
        (message(DELTABLE, (1, b"fastdns\0"), subsystem=1), NONE),
        (rule(NEWRULE, b"nat", b"X") + rule(DELRULE, b"fastdns", b"y"), OURS),
        (b"", NONE),
        (b"\xff" * 16, SOME),
    ],
)
def test_what_concerns_us(data: bytes, change: watch.Change) -> None:
    messages = watch.Messages()
    assert max(messages.judge(data), messages.judge(END)) is change
    assert messages.judge(END) is NONE, "said once"


def test_a_table_is_gone_when_the_transaction_has_ended() -> None:
    messages = watch.Messages()
    assert messages.judge(table(DELTABLE, b"fastdns")) is NONE
    assert messages.judge(table(NEWTABLE, b"fastdns")) is NONE, "in another datagram"
    assert messages.judge(END) is NONE


def test_half_a_transaction_is_forgotten() -> None:
    messages = watch.Messages()
    messages.judge(table(DELTABLE, b"fastdns"))
    messages.have_gap()
    assert messages.judge(END) is NONE


def test_no_message_is_too_odd() -> None:
    messages = watch.Messages()
    chance = random.Random(1)
    samples = [rule(DELRULE, b"fastdns", b"x"), message(NEWCHAIN, (1, b"filter\0"), (3, b"INPUT\0")), END]
    for _ in range(20_000):
        data = bytearray(chance.choice(samples))
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        messages.judge(bytes(data[: chance.randrange(len(data) + 1)]))


def test_a_message_cut_short_is_no_message() -> None:
    whole = table(NEWTABLE, b"fastdns")
    ((kind, _, body),) = nfnetlink.messages(whole)
    assert kind == 10 << 8 | NEWTABLE
    assert dict(nfnetlink.attributes(body)) == {1: b"fastdns"}
    with pytest.raises(ValueError, match="octets"):
        list(nfnetlink.messages(whole[:-4]))
    with pytest.raises(ValueError, match="octets"):
        list(nfnetlink.attributes(body[:-4]))


def test_legacy_tables_show_in_proc(tmp_path: Path) -> None:
    assert not watch.legacy_in_use(tmp_path)
    (tmp_path / "ip_tables_names").write_text("")
    assert not watch.legacy_in_use(tmp_path)
    (tmp_path / "ip6_tables_names").write_text("filter\n")
    assert watch.legacy_in_use(tmp_path)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whose_sockets_are_there(host: str, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as one:
        one.bind((host, 0))
        port = one.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            assert foreign_listeners([host], port, ()) == frozenset(), "bound, and not listening"
            one.listen()
        assert foreign_listeners([host], port, ()) == {host}
        assert foreign_listeners([host], port, (os.getpid(),)) == frozenset()
        assert foreign_listeners(["192.0.2.1"], port, ()) == frozenset()
        assert foreign_listeners([host], port, (0,)) == {host}, "a process that isn't there has none"


def test_a_socket_that_only_a_child_of_ours_still_has_is_ours() -> None:
    """A listener that a reload gives up, while a worker answers what it has received there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(1)
    try:
        assert foreign_listeners(["127.0.0.1"], port, ()) == {"127.0.0.1"}
        assert foreign_listeners(["127.0.0.1"], port, (os.getpid(),)) == frozenset()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_socket_that_is_closed_between_two_looks_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))

        def close_it(*_: object) -> set[int]:
            one.close()
            return set()

        monkeypatch.setattr(listening, "_inodes", close_it)
        assert foreign_listeners(["127.0.0.1"], one.getsockname()[1], (os.getpid(),)) == frozenset()


def survey(**changed: object) -> Survey:
    facts: dict[str, object] = {
        "kube_proxy": "iptables-nft",
        "cni": "calico",
        "filters": (),
        "droppers": (),
        "held": (Held(LOCAL, "nodelocaldns", False), Held(SERVICE, "nodelocaldns", False)),
        "served": frozenset({LOCAL, SERVICE}),
        "fallbacks": frozenset({LOCAL}),
        "has_table": True,
        "memory": "none",
        "trouble": (),
    }
    return Survey(**{**facts, **changed})  # type: ignore[arg-type]


def test_a_node_where_all_is_well_says_little() -> None:
    report = judge(survey(), (LOCAL, SERVICE))
    assert summary(report) == "kube-proxy iptables-nft; CNI calico"
    assert all(one["falls_back"] for one in report["addresses"].values())
    assert "\n".join(lines(report)).count("when we die") == 2


def test_without_a_fallback_the_link_local_address_is_dead() -> None:
    report = judge(survey(fallbacks=frozenset()), (LOCAL, SERVICE))
    assert not report["addresses"][LOCAL]["falls_back"]
    assert "no fallback for it" in summary(report)


@pytest.mark.parametrize("cni", ["cilium", "calico-ebpf"])
def test_an_early_translation_keeps_queries_from_the_service_address(cni: str) -> None:
    report = judge(survey(cni=cni, kube_proxy="none"), (LOCAL, SERVICE))
    assert "may never get here" in report["addresses"][SERVICE]["reach"]
    assert report["addresses"][LOCAL]["reach"] == "yes"
    assert not report["addresses"][SERVICE]["falls_back"]


def test_a_permanent_address_outlives_us() -> None:
    report = judge(survey(held=(Held(LOCAL, "nodelocaldns", True),), served=frozenset()), (LOCAL,))
    assert report["left_overs"] == [f"{LOCAL} on nodelocaldns, without a lifetime and with nobody behind it"]
    assert not report["addresses"][LOCAL]["falls_back"]
