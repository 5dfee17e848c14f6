# SPDX-License-Identifier: Apache-2.0
"""Runs a case: a server with its Corefile over scripted upstreams, its queries in order and in time.

`run_case(case, NODE_CACHE)` starts everything anew and returns what was seen; node-cache and fastdns get the
same arguments.
"""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdataclass
import dns.rdatatype

from tests.diff.pairs import Ask, Case
from tests.diff.records import RECORDS, RECORDS_2
from tests.diff.reply import Seen
from tests.diff.upstream import Asked, Table, asked
from tests.mock_upstream import MockUpstream, mock_upstream
from tests.peers.run import find_program, free_port, start
from tests.system.clients import receive_framed
from tests.system.server import ROOT, is_answering

LISTEN, LISTEN6 = "127.0.0.1", "::1"
WITHIN_S = 8.0  # node-cache's own failures take 6 s
LOG_QUIET_S = 0.6
SETTLE_S = 0.05  # after a reply: what it makes a server ask in the background has come upstream


@dataclass(frozen=True)
class Program:
    """One of the two servers; `command` is what node-cache's arguments are put behind."""

    name: str
    command: Callable[[], Sequence[str]]


_NODE_CACHE_SCRIPT = (
    "import sys; from fastdns.commands.nodecache import main; sys.exit(main())"  # as installed
)
NODE_CACHE = Program("node-cache", lambda: [find_program("node-cache")])
FASTDNS = Program("fastdns", lambda: [sys.executable, "-P", "-c", _NODE_CACHE_SCRIPT])


@dataclass
class Outcome:
    """What a case's queries saw, one a query; the exposition and the log at its end."""

    seen: list[Seen] = field(default_factory=list)
    metrics: str = ""
    log: str = ""
    http: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  #: what stands for which variable, port and folder


@dataclass
class World:
    """The upstreams of one server, and what they were asked."""

    upstreams: dict[str, MockUpstream]
    _read: dict[str, int] = field(default_factory=dict)

    def take_asked(self) -> frozenset[Asked]:
        """What was asked since the last time."""
        new = set()
        for name, upstream in self.upstreams.items():
            questions = upstream.questions[self._read.get(name, 0) :]
            self._read[name] = self._read.get(name, 0) + len(questions)
            new |= {asked(name, question) for question in questions}
        return frozenset(one for one in new if one is not None)


def run_case(case: Case, program: Program) -> Outcome:
    """Start `program` for this case alone, ask everything, stop it."""
    with _world(case) as (world, variables), tempfile.TemporaryDirectory(prefix="diff-") as folder:
        variables["DIR"] = folder
        for name, text in case.files.items():
            (Path(folder) / name).write_text(_with_variables(text, variables), encoding="utf-8")
        scratch: list[Path] = []

        def configure(directory: Path, port: int) -> Sequence[str]:
            scratch.append(directory)
            return _configure(case, program, directory, port)

        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        with start(
            program.name, configure, environment=environment, is_up=lambda *at: is_answering(at)
        ) as peer:
            outcome = Outcome(names={**variables, "PORT": str(peer.port)})
            world.take_asked()
            _ask_all(case, world, peer.port, outcome)
            for variable, method, path in case.http:
                outcome.http[f"{variable} {method} {path}"] = _fetch(variables[variable], method, path)
            if case.metrics:
                outcome.metrics = _scrape(variables["METRICS"])
            if case.log:
                outcome.log = _quiet(scratch[-1] / "log")
        return outcome


def _quiet(log: Path) -> str:
    """A log once nothing has been added to it for a while: lines are written behind the replies."""
    text, since = "", time.monotonic()
    while time.monotonic() - since < LOG_QUIET_S:
        time.sleep(0.05)
        found = log.read_text(encoding="utf-8", errors="replace")
        if found != text:
            text, since = found, time.monotonic()
    return text


def _with_variables(text: str, variables: Mapping[str, str]) -> str:
    """Only Corefiles know variables by themselves; hosts files and resolv.conf don't."""
    for name, value in variables.items():
        text = text.replace(f"{{${name}}}", value)
    return text


@contextlib.contextmanager
def _world(case: Case) -> Iterator[tuple[World, dict[str, str]]]:
    """The upstreams that the Corefile names, and the variables for it."""
    with contextlib.ExitStack() as stack:
        upstreams: dict[str, MockUpstream] = {}
        variables = {"LISTEN": LISTEN, "LISTEN6": LISTEN6, "DEAD": f"{LISTEN}:{free_port()}"}
        for name, table, address in (
            ("UP", RECORDS, LISTEN),
            ("UP2", RECORDS_2, LISTEN),
            ("UP6", RECORDS, LISTEN6),
        ):
            if f"${name}}}" in case.corefile + "".join(case.files.values()):
                upstream = stack.enter_context(mock_upstream(Table(table), address, lenient=True))
                upstreams[name] = upstream
                host, port = upstream.server
                variables[name] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for name in ("METRICS", "HEALTH"):
            variables[name] = f"{LISTEN}:{free_port()}"
        yield World(upstreams), variables


def _configure(case: Case, program: Program, directory: Path, port: int) -> Sequence[str]:
    """The Corefile as node-cache's template, and node-cache's command line."""
    template = directory / "base" / "Corefile.base"  # a folder of its own: node-cache watches all of it
    template.parent.mkdir(exist_ok=True)
    template.write_text(case.corefile, encoding="utf-8")
    return [
        *program.command(), "-localip", LISTEN, "-p", str(port),
        "-setupinterface=false", "-setupiptables=false", "-skipteardown=true",
        "-basecorefile", str(template), "-conf", str(directory / "Corefile"),
        "-metrics-listen-address", f"{LISTEN}:{free_port()}",
    ]  # fmt: skip


def _ask_all(case: Case, world: World, port: int, outcome: Outcome) -> None:
    """All queries by the clock: each at its time, if those before it took no longer than half a second."""
    due = time.monotonic()
    for ask in case.asks:
        due = max(due, time.monotonic() - 0.5) + ask.wait
        time.sleep(max(0.0, due - time.monotonic()))
        seen = _ask(ask, port)
        time.sleep(SETTLE_S)
        seen.asked = world.take_asked()
        outcome.seen.append(seen)


def _ask(ask: Ask, port: int) -> Seen:
    firsts: set[str] = set()
    for _ in range(ask.repeat):
        wire = query_wire(ask)
        began = time.monotonic()
        reply, client_port = _exchange(wire, ask, port)
        seen = Seen(reply, time.monotonic() - began)
        seen.forget_port(client_port)
        if ask.repeat > 1:
            addresses = [
                one.rdata for one in seen.sections.get("answer", []) if one.rdtype in ("A", "AAAA", "MX")
            ]
            firsts |= set(addresses[:1])
    seen.firsts = frozenset(firsts)
    return seen


def query_wire(ask: Ask) -> bytes:
    """The query as octets."""
    if ask.wire is not None:
        return ask.wire
    query = dns.message.Message()
    query.flags = dns.flags.Flag(0)
    for flag, is_set in (("RD", ask.rd), ("AD", ask.ad), ("CD", ask.cd)):
        query.flags |= dns.flags.from_text(flag) if is_set else 0
    query.set_opcode(dns.opcode.from_text(ask.opcode))
    query.find_rrset(
        query.question,
        dns.name.from_text(ask.name),
        dns.rdataclass.from_text(ask.qclass),
        dns.rdatatype.from_text(ask.rdtype),
        create=True,
        force_unique=True,
    )
    if ask.edns is not None or ask.do or ask.options:
        options: list[dns.edns.Option] = [
            dns.edns.GenericOption(dns.edns.OptionType.make(code), data) for code, data in ask.options
        ]
        query.use_edns(ask.version, dns.flags.DO if ask.do else 0, ask.edns or 1232, options=options)
    return query.to_wire()


def _exchange(wire: bytes, ask: Ask, port: int) -> tuple[bytes | None, int]:
    """One query, one reply or None; and the client's port."""
    family, address = (socket.AF_INET6, LISTEN6) if ask.v6 else (socket.AF_INET, LISTEN)
    kind = socket.SOCK_STREAM if ask.tcp else socket.SOCK_DGRAM
    patience = WITHIN_S if ask.says.split()[:1] != ["SILENCE"] else 1.0
    with socket.socket(family, kind) as sock:
        sock.settimeout(patience)
        try:
            sock.connect((address, port))
            if ask.tcp:
                return _exchange_tcp(sock, wire, ask), sock.getsockname()[1]
            sock.send(wire)
            while (reply := sock.recv(65535))[:2] != wire[:2]:
                pass
            return reply, sock.getsockname()[1]
        except (OSError, EOFError):
            return None, 0


def _exchange_tcp(sock: socket.socket, wire: bytes, ask: Ask) -> bytes:
    framed = len(wire).to_bytes(2, "big") + wire
    time.sleep(ask.hold)
    sock.sendall(framed)
    if not ask.idle:
        return receive_framed(sock)
    receive_framed(sock)
    time.sleep(ask.idle)
    sock.sendall(framed)
    return receive_framed(sock)


def _fetch(endpoint: str, method: str, path: str) -> tuple[int, str, str]:
    """Status, type and body; of /metrics no body."""
    connection = http.client.HTTPConnection(endpoint, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode()
        is_long = response.status == http.HTTPStatus.OK and path == "/metrics"
        return response.status, response.getheader("Content-Type", "").split(";")[0], "" if is_long else body


def _scrape(endpoint: str) -> str:
    connection = http.client.HTTPConnection(endpoint, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def run_cases(
    cases: Sequence[Case], programs: Sequence[Program], at_once: int
) -> dict[tuple[str, str], Outcome | Exception]:
    """All cases on all programs, by (case, program); an exception in place of what could not be had."""
    results: dict[tuple[str, str], Outcome | Exception] = {}
    lock = threading.Lock()

    def run(job: tuple[Case, Program]) -> None:
        case, program = job
        try:
            outcome: Outcome | Exception = run_case(case, program)
        except Exception as error:  # the test of each of its pairs raises it
            outcome = error
        with lock:
            results[case.name, program.name] = outcome

    jobs = [(case, program) for case in cases for program in programs]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, jobs))
    return results


def does_start(corefile: str) -> bool:
    """Whether node-cache gets as far as serving with this Corefile."""
    case = Case("starts", corefile, ())
    with tempfile.TemporaryDirectory(prefix="diff-") as folder:
        directory = Path(folder)
        command = _configure(case, NODE_CACHE, directory, free_port())
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env={**os.environ, "LISTEN": LISTEN},
            )
        try:
            deadline = time.monotonic() + WITHIN_S
            while process.poll() is None and b"CoreDNS-" not in log.read_bytes():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"neither serves nor leaves:\n{corefile}\n{log.read_text()}")
                time.sleep(0.02)
            return process.poll() is None
        finally:
            process.kill()
            process.wait()
