# SPDX-License-Identifier: Apache-2.0
"""node-cache's command line: Go's spelling, defaults, what is refused (corefile.md 6.1)."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import log
from fastdns.commands import nodecache, serve
from fastdns.commands.goflags import FlagError, HelpWanted, parse_flags
from fastdns.commands.nodecache import FLAGS, main, make_options
from fastdns.commands.start import start
from fastdns.control import pidfile
from fastdns.control.model import NodeOptions, Options
from fastdns.errors import FastDNSError

LOCAL = "-localip=169.254.20.10"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    found: list[str] = []
    monkeypatch.setattr(log, "_write", lambda level, text: found.append(f"[{level}] {text}"))
    return found


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory without Corefile."""
    monkeypatch.chdir(tmp_path)


def options(*words: str) -> Options:
    return make_options(parse_flags(FLAGS, words))


def node(*words: str) -> NodeOptions:
    found = options(LOCAL, *words).node
    assert found is not None
    return found


def test_defaults() -> None:
    assert options(LOCAL) == Options(
        program="node-cache", conf="/etc/Corefile", node=NodeOptions(("169.254.20.10",))
    )
    assert Options(node=node()).dns_port == 53


def test_every_flag() -> None:
    found = options(
        "-localip", "169.254.20.10,10.43.0.10", "-conf", "/x", "-basecorefile", "/b", "-kubednscm", "/k",
        "-upstreamsvc", "svc", "-setupinterface=false", "-interfacename", "dns0", "-setupiptables=f",
        "-skipteardown=true", "-syncinterval", "2m", "-metrics-listen-address", ":9000", "-health-port", "81",
        "-reloadwithsignal", "-pidfile", "/p", "-dns.port", "5353", "-quiet",
    )  # fmt: skip
    assert found == Options(
        program="node-cache", conf="/x", dns_port=5353, quiet=True, pidfile="/p",
        node=NodeOptions(
            ("169.254.20.10", "10.43.0.10"), setup_interface=False, interface="dns0", setup_iptables=False,
            skip_teardown=True, sync_interval_s=120.0, health_port=81, metrics_listen=("", 9000),
            base_corefile="/b", kubedns_dir="/k", upstream_service="svc", reload_with_signal=True,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [["-p", "54"], ["-p=54"], ["--p=54"], ["--p", "54"], ["-dns.port=54"], ["-p=5", "-dns.port", "54"]],
)
def test_spellings(words: Sequence[str]) -> None:
    assert options(LOCAL, *words).dns_port == 54


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], False),
        (["-skipteardown"], True),
        (["--skipteardown"], True),
        (["-skipteardown=1"], True),
        (["-skipteardown=T"], True),
        (["-skipteardown=true", "-skipteardown=False"], False),
        (["-skipteardown", "--"], True),
    ],
)
def test_booleans(words: Sequence[str], value: bool) -> None:
    assert node(*words).skip_teardown is value


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("10.0.0.1", ("10.0.0.1",)),
        ("169.254.20.10, 10.43.0.10\n", ("169.254.20.10", "10.43.0.10")),  # a template's line break
        ("169.254.20.10,fd00:0::A", ("169.254.20.10", "fd00::a")),  # node-cache: unexpected IP Family
    ],
)
def test_addresses(text: str, addresses: tuple[str, ...]) -> None:
    found = options("-localip", text).node
    assert found is not None
    assert found.local_ips == addresses


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60.0), ("1m30s", 90.0), ("60", 60.0), ("1.5s", 1.5), ("60ns", 60.0)]
)
def test_syncinterval_is_in_units_that_people_mean(text: str, seconds: float, lines: list[str]) -> None:
    """60ns is node-cache's own spelling of a minute, and the only one that it understands as one."""
    assert node("-syncinterval", text).sync_interval_s == seconds
    assert [line.partition("taken as ")[2] for line in lines] == (
        ["60s, as node-cache does"] if text == "60ns" else []
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], 'invalid localip specified - ""'),
        (["-localip", ""], 'invalid localip specified - ""'),
        (["-localip", "1.2.3.4,,5.6.7.8"], 'invalid localip specified - ""'),
        (["-localip", "nonsense"], 'invalid localip specified - "nonsense": expected IPv4 or IPv6'),
        (["-localip", "1.2.3.4:53"], 'invalid localip specified - "1.2.3.4:53"'),
        (["-localip", "::1,0::1"], "::1 is given twice"),
        ([LOCAL, "-foo"], "flag provided but not defined: -foo"),
        ([LOCAL, "-setupiptable=false"], "not defined: -setupiptable; did you mean -setupiptables?"),
        ([LOCAL, "-logtostderr"], "flag provided but not defined: -logtostderr"),
        ([LOCAL, "---conf", "x"], "bad flag syntax: ---conf"),
        ([LOCAL, "-=x"], "bad flag syntax: -=x"),
        ([LOCAL, "-conf"], "flag needs an argument: -conf"),
        ([LOCAL, "-setupiptables=maybe"], 'invalid boolean value for -setupiptables: "maybe": expected true'),
        ([LOCAL, "-setupiptables="], 'invalid boolean value for -setupiptables: ""'),
        ([LOCAL, "-setupinterface", "false"], 'arguments: "false"; a boolean flag takes its value'),
        ([LOCAL, "start", "-quiet"], 'extra command line arguments: "start" "-quiet"'),
        ([LOCAL, "-"], 'extra command line arguments: "-"'),
        ([LOCAL, "--", "-quiet"], 'extra command line arguments: "-quiet"'),
        ([LOCAL, "-p", "dns"], "invalid value for -p: 'dns': expected a port from 1 to 65535"),
        ([LOCAL, "-p", "70000"], "expected a port from 1 to 65535"),
        ([LOCAL, "-health-port", ""], "expected a port"),
        ([LOCAL, "-syncinterval", "10ms"], 'invalid value for -syncinterval: "10ms": expected'),
        ([LOCAL, "-syncinterval", "0ns"], "expected a duration of at least 1s"),
        ([LOCAL, "-syncinterval", "soon"], "expected a duration of at least 1s"),
        ([LOCAL, "-metrics-listen-address", "9353"], '"9353": expected ADDR:PORT'),
        ([LOCAL, "-conf", "a\0b"], "expected a text"),
        ([LOCAL, "-conf", "./f", "-basecorefile", "f"], "are the same file: expected two"),
        ([LOCAL, "-conf", "stdin"], "-conf stdin: expected a pipe with a Corefile"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_line_and_exit_code_2(
    words: Sequence[str], says: str, capsys: pytest.CaptureFixture[str], lines: list[str]
) -> None:
    before = os.dup(0)
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        assert main(words) == 2
    finally:
        os.dup2(before, 0)
        os.close(before)
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.startswith("node-cache: ")
    assert complaint.count("\n") == 1


WORDS = st.sampled_from(["-p", "=", "-", "--", "53", "-quiet", LOCAL, "-conf=x", "-a\nb"]) | st.text()


@given(st.lists(WORDS, max_size=6))
def test_any_command_line_is_read_or_refused(words: list[str]) -> None:
    said = ""
    try:
        parse_flags(FLAGS, words)
    except FlagError as error:
        said = str(error)
    except HelpWanted:
        said = "help"
        assert any(re.fullmatch("--?(h|help)(=.*)?", word, re.DOTALL) for word in words)
    assert "\n" not in said


def test_corefile_stands_in_for_conf(lines: list[str]) -> None:
    """node-cache writes to the one and loads the other; both mean the same here, and -conf counts."""
    assert options(LOCAL, "-corefile", "/a").conf == "/a"
    assert not lines
    assert options(LOCAL, "-corefile", "/a", "-conf", "/b").conf == "/b"
    assert lines == ["[WARNING] -corefile /a is without effect beside -conf /b"]


def test_a_corefile_that_lies_there_is_loaded_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "Corefile").touch()
    found = options(LOCAL)
    assert found.conf == "Corefile"
    assert found.node is not None
    assert found.node.base_corefile == ""


def test_a_corefile_from_a_pipe() -> None:
    read, write = os.pipe()
    before = os.dup(0)
    try:
        os.dup2(read, 0)
        os.write(write, b".:53 {\n}\n")
        os.close(write)
        found = options(LOCAL, "-conf", "stdin")
    finally:
        os.dup2(before, 0)
        for descriptor in (before, read):
            os.close(descriptor)
    assert (found.conf, found.conf_text) == ("stdin", ".:53 {\n}\n")
    assert found.has_corefile


def test_what_is_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is set up for it, and nothing else need be right."""
    assert [main([word]) for word in ("-h", "--help", "-version", "-plugins")] == [0, 0, 0, 0]
    shown = capsys.readouterr().out
    assert re.search(r"^fastdns-.* in place of CoreDNS-", shown, re.MULTILINE)
    assert "\n  dns.forward\n" in shown
    for flag in FLAGS:
        assert f"-{flag.names[0]}" in shown


def test_the_start_is_said(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    started: list[Options] = []

    def start(options: Options) -> int:
        started.append(options)
        return 0

    monkeypatch.setattr(nodecache, "start", start)
    assert main([LOCAL, "-conf", "/etc/Corefile", "-pidfile=/run/pid"]) == 0
    assert [one.pidfile for one in started] == ["/run/pid"]
    assert lines[0].startswith("[INFO] Starting node-cache image: ")
    assert lines[1:] == ["[INFO] Using Corefile /etc/Corefile", "[INFO] Using Pidfile /run/pid"]


def test_errors_of_the_server_keep_their_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: list[str]
) -> None:
    def start(options: Options) -> int:
        raise FastDNSError("broken")

    monkeypatch.setattr(nodecache, "start", start)
    assert main([LOCAL]) == 1
    assert capsys.readouterr().err == "node-cache: broken\n"


# ------------------------------------------------------------------------ serve --conf, and the pidfile --


def test_serve_shares_the_options() -> None:
    found = serve.parse(["--conf", "/etc/coredns/Corefile", "--dns-port", "1053", "--workers=1"])
    assert found == Options(conf="/etc/coredns/Corefile", dns_port=1053, workers=1)
    assert found.has_corefile
    assert not serve.parse([]).has_corefile


@pytest.mark.parametrize("words", [["--listen", "127.0.0.1"], ["--upstream", "1.1.1.1"]])
def test_a_corefile_excludes_addresses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        serve.parse(["--conf", "Corefile", *words])
    assert caught.value.code == 2
    assert "expected no --listen, no --upstream" in capsys.readouterr().err


def test_the_pidfile(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "pid"
    pidfile.write(file, os.getpid())
    assert file.read_text() == f"{os.getpid()}\n"
    pidfile.remove(file)
    assert not file.exists()
    pidfile.remove(file)
    pidfile.write(file, os.getpid() + 1)
    pidfile.remove(file)
    assert file.exists(), "another server's"
    assert lines == []
    pidfile.write(tmp_path / "absent" / "pid", 1)
    assert lines == [f"[ERROR] Failed to write pidfile {tmp_path}/absent/pid: No such file or directory"]


def test_the_pidfile_goes_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastdns.keeper.process

    file = tmp_path / "pid"

    def run(entries: object) -> int:
        pidfile.write(file, os.getpid())
        return 3

    monkeypatch.setattr(fastdns.keeper.process, "run", run)
    assert start(Options(pidfile=str(file))) == 3
    assert not file.exists()
