# SPDX-License-Identifier: Apache-2.0
"""A locust user that asks a DNS server over UDP.

As a locust file of its own:

    locust --locustfile .../fastdns/loadgen/locust_user.py --headless --users 50 --host 127.0.0.1:5300

or as a base: ``from fastdns.loadgen.locust_user import DnsUser`` with `names` and `wait_time` of
one's own. Each user has one connected socket and one query under way; gevent, which locust puts
under Python's sockets, lets the others go on meanwhile.

FASTDNS_LOCUST_NAMES: file of 'name [type]' lines. FASTDNS_LOCUST_RATE: queries/s of each user.
FASTDNS_LOCUST_REPORT: where to write the figures at the end, a LoadResult as JSON.
"""

import json
import os
import random
import socket
import time
from array import array
from pathlib import Path
from typing import Any, ClassVar, Final

from locust import User, constant, constant_throughput, events, task

from fastdns.control.addresses import parse_endpoint
from fastdns.loadgen.queries import encode_query, read_names
from fastdns.loadgen.spec import RCODES, Latency, LoadResult

_TIMEOUT_S: Final = 1.0
_HEADER_LEN: Final = 12
_DEFAULT_NAMES: Final = [("nginx-svc.default.svc.cluster.local", "A")]


class _Figures:
    """What all users of this process saw; written once, at the end."""

    def __init__(self) -> None:
        self.sent = self.timeouts = self.refused = self.stray = self.truncated = self.octets_in = 0
        self.rcodes: dict[str, int] = {}
        self.waits_us = array("d")
        self.first = self.last = 0.0

    def as_result(self) -> LoadResult:
        elapsed = self.last - self.first
        answered = len(self.waits_us)
        return LoadResult(
            sent=self.sent,
            answered=answered,
            timeouts=self.timeouts,
            late=0,
            lost=self.timeouts,
            stray=self.stray,
            mismatched=0,
            truncated=self.truncated,
            refused=self.refused,
            send_errors=0,
            held_back=0,
            in_flight=self.sent - answered - self.timeouts,
            elapsed_s=elapsed,
            answers_per_s=answered / elapsed if elapsed else 0.0,
            octets_in=self.octets_in,
            rcodes=self.rcodes,
            latency_us=self._latency(),
        )

    def _latency(self) -> Latency:
        waits = sorted(self.waits_us)
        if not waits:
            return Latency()
        points = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
        found = {name: waits[min(len(waits) - 1, int(share * len(waits)))] for name, share in points.items()}
        return Latency(min=waits[0], mean=sum(waits) / len(waits), max=waits[-1], **found)


_figures: Final = _Figures()


def _names() -> list[tuple[str, str]]:
    path = os.environ.get("FASTDNS_LOCUST_NAMES")
    if path is None:
        return _DEFAULT_NAMES
    with Path(path).open(encoding="ascii") as lines:
        return read_names(lines)


class DnsUser(User):
    """Asks a random one of `names`, waits for the reply or a second, asks again."""

    names: ClassVar[list[tuple[str, str]]] = _names()
    wait_time = (
        constant_throughput(float(os.environ["FASTDNS_LOCUST_RATE"]))
        if "FASTDNS_LOCUST_RATE" in os.environ
        else constant(0)
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queries = [(name, encode_query(name, qtype)) for name, qtype in self.names]
        self._socket: socket.socket | None = None

    def on_start(self) -> None:
        """Connect: then a port where nobody listens is an error, not a silence."""
        server = parse_endpoint(self.host or "127.0.0.1:5300")
        self._socket = socket.socket(server.family, socket.SOCK_DGRAM)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.connect(server.sockaddr)

    def on_stop(self) -> None:
        """Leave no socket behind."""
        if self._socket is not None:
            self._socket.close()

    @task
    def ask(self) -> None:
        """One query with its reply."""
        assert self._socket is not None
        name, query = random.choice(self._queries)
        message_id = os.urandom(2)
        _figures.sent += 1
        began = time.perf_counter()
        _figures.first = _figures.first or began
        reply, error = b"", None
        try:
            self._socket.send(message_id + query[2:])
            reply = self._receive(message_id, began + _TIMEOUT_S)
        except OSError as found:
            _figures.timeouts += 1
            _figures.refused += isinstance(found, ConnectionRefusedError)
            error = found
        _figures.last = time.perf_counter()
        if reply:
            self._count(reply, (_figures.last - began) * 1e6)
        self.environment.events.request.fire(
            request_type="UDP",
            name=name,
            response_time=(_figures.last - began) * 1e3,
            response_length=len(reply),
            exception=error,
            context={},
        )

    def _receive(self, message_id: bytes, deadline: float) -> bytes:
        """The reply with this ID; a late one to an earlier query is passed over."""
        assert self._socket is not None
        while (left := deadline - time.perf_counter()) > 0:
            self._socket.settimeout(left)
            reply = self._socket.recv(4096)
            if len(reply) >= _HEADER_LEN and reply[:2] == message_id:
                return reply
            _figures.stray += 1
        raise TimeoutError

    @staticmethod
    def _count(reply: bytes, wait_us: float) -> None:
        rcode = reply[3] & 0xF
        name = RCODES[rcode] if rcode < len(RCODES) else f"RCODE{rcode}"
        _figures.rcodes[name] = _figures.rcodes.get(name, 0) + 1
        _figures.truncated += reply[2] >> 1 & 1
        _figures.octets_in += len(reply)
        _figures.waits_us.append(wait_us)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _write_report(**_: Any) -> None:
    path = os.environ.get("FASTDNS_LOCUST_REPORT")
    if path is not None:
        Path(path).write_text(json.dumps(_figures.as_result().as_dict()), encoding="ascii")
