# SPDX-License-Identifier: Apache-2.0
"""From options to a configuration, and from that to the segment that the data plane reads."""

import errno
import fcntl
import mmap
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from fastdns._stats import read_config
from fastdns.commands.serve import parse, parse_size, parse_upstream
from fastdns.control import load
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.identity import GID, choose_identity
from fastdns.control.model import MIB, Block, Config, Identity, Listener, Options, Upstream, plain_config
from fastdns.control.sockets import open_listener
from fastdns.errors import ListenError, UsageError
from tests.peers.run import free_port

UPSTREAM = Upstream(Endpoint("10.43.0.10", 53), force_tcp=True)
LISTEN_ON = (Endpoint("127.0.0.1", 5300), Endpoint("::", 53), Endpoint("fe80::1", 53, 7))
CONFIG = plain_config(
    LISTEN_ON,
    (UPSTREAM, Upstream(Endpoint("2620:fe::fe", 5353))),
    worker_count=2,
    identity=Identity(64101, 64102, 64101),
)


def test_the_segment_says_what_the_configuration_said() -> None:
    descriptor = create_config(CONFIG)
    try:
        facts = read_config(descriptor)
    finally:
        os.close(descriptor)
    assert facts["listeners"] == [("127.0.0.1", 5300, 0), ("::", 53, 0), ("fe80::1", 53, 7)]
    assert facts["upstreams"] == [("10.43.0.10", 53, 0, True), ("2620:fe::fe", 5353, 0, False)]
    assert (facts["number"], facts["workers"], facts["tcp_connections"], facts["edns_max"]) == (
        1,
        2,
        1024,
        4096,
    )
    assert (facts["worker_uid"], facts["coordinator_uid"], facts["gid"]) == (64101, 64102, 64101)


def test_the_fingerprint_tells_texts_apart() -> None:
    def fingerprint(config: Config) -> int:
        descriptor = create_config(config)
        try:
            return read_config(descriptor)["fingerprints"][0]
        finally:
            os.close(descriptor)

    first = fingerprint(CONFIG)
    assert first == fingerprint(replace(CONFIG, number=2, worker_count=1)) != 0
    assert first != fingerprint(plain_config(LISTEN_ON, (UPSTREAM,), 2))
    servers = (UPSTREAM, Upstream(Endpoint("2620:fe::fe", 5353)))
    assert first == fingerprint(plain_config(LISTEN_ON, servers, 2))
    assert first != fingerprint(plain_config(LISTEN_ON, servers, 2, Block(failure_s=6)))


def test_the_segment_is_sealed() -> None:
    descriptor = create_config(CONFIG)
    try:
        size = os.fstat(descriptor).st_size
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        assert seals == fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        mmap.mmap(descriptor, size, prot=mmap.PROT_READ).close()
        with pytest.raises(OSError, match=os.strerror(errno.EACCES)):
            mmap.mmap(descriptor, size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.write(again, b"x")
        finally:
            os.close(again)
    finally:
        os.close(descriptor)


def test_too_much_for_the_segment_is_refused() -> None:
    many = tuple(Endpoint("127.0.0.1", port) for port in range(1, 34))
    with pytest.raises(ValueError, match="33 listeners"):
        create_config(replace(CONFIG, listeners=tuple(map(Listener, many))))
    with pytest.raises(ValueError, match="17 upstreams: expected at most 16"):
        create_config(plain_config(LISTEN_ON, tuple(map(Upstream, many[:17])), 2))


LISTEN = Endpoint("127.0.0.1", 5300)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(listen=(LISTEN, LISTEN), upstreams=(UPSTREAM,)), "--listen 127.0.0.1:5300: given twice"),
        (Options(upstreams=(UPSTREAM, UPSTREAM)), "the same server is given twice"),
        (Options(upstreams=(Upstream(LISTEN),)), "questions would go round"),
        (
            Options(listen=(Endpoint("0.0.0.0", 5300),), upstreams=(Upstream(Endpoint("127.9.9.9", 5300)),)),
            "questions would go round",
        ),
        (Options(upstreams=(Upstream(Endpoint("0.0.0.0", 53)),)), "expected the address of a server"),
        (
            Options(upstreams=tuple(Upstream(Endpoint("10.0.0.1", port)) for port in range(1, 18))),
            "17 upstreams: expected at most 16",
        ),
        (
            Options(listen=tuple(Endpoint("10.0.0.1", port) for port in range(1, 34)), upstreams=(UPSTREAM,)),
            "33 addresses",
        ),
    ],
)
def test_options_that_cannot_be_served(options: Options, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load.make_config(options)


def test_a_wildcard_takes_only_its_own_port_and_family() -> None:
    listen = (Endpoint("0.0.0.0", 5300),)
    for upstream in (Endpoint("127.0.0.1", 53), Endpoint("192.0.2.1", 5300), Endpoint("::1", 5300)):
        assert load.make_config(Options(listen=listen, upstreams=(Upstream(upstream),))).upstreams


def test_upstreams_are_the_nameservers_where_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [Endpoint("10.0.0.1", 53), LISTEN, Endpoint("10.0.0.2", 53)]
    monkeypatch.setattr(load, "nameservers", lambda: others)
    config = load.make_config(Options(listen=(LISTEN,)))
    assert config.upstreams == (Upstream(others[0]), Upstream(others[2]))
    monkeypatch.setattr(load, "nameservers", lambda: [LISTEN])
    with pytest.raises(UsageError, match="names no other server"):
        load.make_config(Options(listen=(LISTEN,)))


def test_workers_follow_the_cores_up_to_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert load.make_config(Options(upstreams=(UPSTREAM,))).worker_count == workers


COREFILE = "fastdns {{\n    workers {}\n    memory {}\n}}\n.:5300 {{\n    bind 127.0.0.1\n    {}\n}}\n"


def test_what_only_a_start_can_change_is_said_at_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line; the rest of the new file counts."""
    said: list[str] = []
    monkeypatch.setattr("fastdns.log.warning", said.append)
    options = Options(conf="Corefile")
    first = load.load_corefile(options, COREFILE.format(2, "16M", "whoami"), None)
    same = load.load_corefile(options, COREFILE.format(2, "16M", "cache"), first)
    assert said == []
    more = load.load_corefile(options, COREFILE.format(3, "32M", "forward . 192.0.2.1"), same)
    assert said == ["Corefile: workers 3 (now 2), memory 32M (now 16M): takes a restart of the server"]
    assert (more.config.worker_count, more.memory) == (2, 16 * MIB)
    assert more.outdates(same)
    load.load_corefile(options, COREFILE.format(3, "16M", "whoami"), more)
    assert said[1:] == ["Corefile: workers 3 (now 2): takes a restart of the server"]
    load.load_corefile(options, COREFILE.format(2, "16M", "whoami"), more)
    assert len(said) == 2


def test_the_command_line() -> None:
    options = parse(
        [
            "--listen",
            "127.0.0.1:5300",
            "--listen",
            "[::1]:5300",
            "--upstream",
            "tcp://10.43.0.10",
            "--memory=32m",
        ]
    )
    assert options == Options(
        listen=(Endpoint("127.0.0.1", 5300), Endpoint("::1", 5300)), upstreams=(UPSTREAM,), memory=32 * MIB
    )
    assert parse([]) == Options()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "nowhere"], "argument --listen: 'nowhere': expected an IP address"),
        (["--upstream", "udp://1.1.1.1"], "expected ADDR[:PORT] or tcp://ADDR[:PORT]"),
        (["--workers", "0"], "expected a number of workers from 1 to 16"),
        (["--workers", "two"], "'two'"),
        (["--memory", "16X"], "expected a size such as 16M"),
        (["--memory", ""], "expected a size"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--work", "2"], "unrecognized arguments"),
    ],
)
def test_bad_values_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.startswith("fastdns serve: ")
    assert complaint.count("\n") == 1


def test_sizes_and_upstreams() -> None:
    assert [parse_size(text) for text in ("8388608", "16K", "16M", "16MiB", "16mb", "1g")] == [
        8388608, 16384, 16 * MIB, 16 * MIB, 16 * MIB, 1024 * MIB,
    ]  # fmt: skip
    assert parse_upstream("[::1]:5353") == Upstream(Endpoint("::1", 5353))
    with pytest.raises(UsageError):
        parse_upstream("tcp://")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_sockets_as_the_data_plane_expects_them(host: str) -> None:
    endpoint = Endpoint(host, free_port())
    with open_listener(endpoint, 3, 512 * 1024) as opened:
        assert len(opened.udp) == len(opened.tcp) == 3
        assert len(opened.descriptors()) == 6
        for one in (*opened.udp, *opened.tcp):
            assert one.getsockname()[:2] == (host, endpoint.port)
            assert not os.get_blocking(one.fileno())
            assert not os.get_inheritable(one.fileno())
            if ":" in host:
                assert one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        for one in opened.tcp:
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        for one in opened.udp:
            level, option = (41, 49) if ":" in host else (0, 8)
            assert one.getsockopt(level, option) == int(endpoint.wildcard)
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * opened.rcvbuf
        if os.geteuid() == 0:
            assert opened.rcvbuf == 512 * 1024


def test_an_address_that_cannot_be_bound_is_said_in_one_line() -> None:
    with pytest.raises(ListenError, match=r"--listen 192\.0\.2\.1:53: UDP: .*no interface") as caught:
        open_listener(Endpoint("192.0.2.1", 53), 2, 65536)
    assert caught.value.exit_code == 2


def test_an_address_that_is_not_there_yet_can_be_bound() -> None:
    for host in ("192.0.2.1", "2001:db8::1"):
        with open_listener(Endpoint(host, 5300), 2, 65536, freebind=True) as opened:
            assert [one.getsockname()[:2] for one in (*opened.udp, *opened.tcp)] == [(host, 5300)] * 4


def test_an_address_in_use_closes_what_was_opened() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(ListenError, match="TCP: Address already in use"):
            open_listener(Endpoint("127.0.0.1", other.getsockname()[1]), 2, 65536)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def make_proc(root: Path, *, capabilities: int, mapped: str) -> Path:
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities:016x}\n")
    (proc / "uid_map").write_text(mapped)
    (proc / "gid_map").write_text(mapped)
    return root


def test_uids_are_changed_only_where_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = "         0          0 4294967295\n"
    needed = 1 << 5 | 1 << 6 | 1 << 7
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    able = choose_identity(make_proc(tmp_path / "able", capabilities=needed, mapped=whole))
    assert able.gid == GID
    assert 0 != able.worker_uid != able.coordinator_uid != 0
    for bit in (5, 6, 7):
        root = make_proc(tmp_path / f"no{bit}", capabilities=needed & ~(1 << bit), mapped=whole)
        assert choose_identity(root) == Identity()
    narrow = make_proc(tmp_path / "narrow", capabilities=needed, mapped="0 100000 64102\n")
    assert choose_identity(narrow) == Identity()  # the coordinator's uid is not mapped
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert choose_identity(tmp_path / "able") == Identity()
