# SPDX-License-Identifier: Apache-2.0
"""The plugins `log` and `errors`: from records in the log rings to lines on stdout.

Lines have no time and no prefix but their level, as node-cache's. Nobody waits for a reader of stdout: what
doesn't fit is dropped, counted, and said at a bounded rate.
"""

import errno
import os
import re
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastdns import log as own_log
from fastdns.control.observe._lines import CLASSES, STEPS, LogReader, Out, Rule, Texts, take
from fastdns.control.observe.names import Names, block_of_zone
from fastdns.control.observe.readers import RCODES

if TYPE_CHECKING:
    from fastdns._stats import Ledger
    from fastdns.control.config.model import Consolidate, Corefile, Errors, Log
    from fastdns.control.model import Config
    from fastdns.control.observe._lines import ErrorRecord

COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}"'
    " {rcode} {>rflags} {rsize} {duration}"
)
COMBINED = COMMON + ' "{>opcode}"'

# IANA's registry; here as text, because dnspython would be control's largest library.
_TYPES = (
    "1:A 2:NS 3:MD 4:MF 5:CNAME 6:SOA 7:MB 8:MG 9:MR 10:NULL 11:WKS 12:PTR 13:HINFO 14:MINFO "
    "15:MX 16:TXT 17:RP 18:AFSDB 19:X25 20:ISDN 21:RT 22:NSAP 23:NSAP-PTR 24:SIG 25:KEY 26:PX "
    "27:GPOS 28:AAAA 29:LOC 30:NXT 33:SRV 35:NAPTR 36:KX 37:CERT 38:A6 39:DNAME 41:OPT 42:APL "
    "43:DS 44:SSHFP 45:IPSECKEY 46:RRSIG 47:NSEC 48:DNSKEY 49:DHCID 50:NSEC3 51:NSEC3PARAM "
    "52:TLSA 53:SMIMEA 55:HIP 56:NINFO 59:CDS 60:CDNSKEY 61:OPENPGPKEY 62:CSYNC 63:ZONEMD "
    "64:SVCB 65:HTTPS 99:SPF 103:UNSPEC 104:NID 105:L32 106:L64 107:LP 108:EUI48 109:EUI64 "
    "249:TKEY 250:TSIG 251:IXFR 252:AXFR 253:MAILB 254:MAILA 255:ANY 256:URI 257:CAA 258:AVC "
    "260:AMTRELAY 261:RESINFO 32768:TA 32769:DLV "
)
TYPES = {int(number): name for number, _, name in (one.partition(":") for one in _TYPES.split())}

BATCH = 1024  #: records taken before the event loop has its turn
_SAY_AGAIN_S = 60.0  #: between two lines about dropped lines
_PIPE_BUF = 4096  #: octets that a pipe takes whole, and has room for when it says that it has room
_STDOUT = 1

# fd_log_error_t.kind
_TIMEOUT, _REFUSED, _NO_PROXY, _NO_NEXT, _BUSY, _PLUGIN, _LOOP, _CONCURRENT = 1, 2, 3, 4, 5, 6, 7, 8


def compile_format(text: str) -> tuple[str | int, ...]:
    """A format's literals and steps. Unknown {x} stays as it is; {/metadata} is `-`, as nothing gives any."""
    whole = (text or COMMON).replace("{common}", COMMON).replace("{combined}", COMBINED)
    steps: list[str | int] = []
    for piece in re.split(r"(\{[^{}\s]*\})", whole):
        if piece in STEPS:
            steps.append(STEPS[piece])
        elif piece.startswith("{/") and piece.endswith("}"):
            steps.append("-")
        elif piece:
            steps.append(piece)
    return tuple(steps)


def texts() -> Texts:
    """Names of numbers as CoreDNS writes them."""
    rcodes = dict(enumerate(RCODES[:11])) | {16: "BADVERS"}
    return Texts(TYPES, {1: "IN", 2: "CS", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}, rcodes)


def make_rule(log: "Log") -> Rule:
    """A `log` line of the Corefile."""
    from fastdns.control._tables import wire_name

    scopes = [wire_name(zone) for zone in log.zones or (".",)]
    classes = 0
    for name in log.classes:
        classes |= CLASSES[name]
    return Rule(scopes, classes, compile_format(log.format))


@dataclass(slots=True)
class _Window:
    """One `consolidate` option, and what it holds back."""

    option: "Consolidate"
    matches: Callable[[str], Any]
    count: int = 0
    due_s: float = 0.0


@dataclass(slots=True)
class BlockErrors:
    """`errors` of one block."""

    windows: list[_Window] = field(default_factory=list)

    @classmethod
    def of(cls, errors: "Errors") -> "BlockErrors":
        if not errors.consolidate:
            return cls()
        import re2  # google-re2: Go's syntax in linear time; only where it is asked for

        return cls([_Window(one, re2.compile(one.regex).search) for one in errors.consolidate])

    def lines(self, text: str, now_s: float) -> list[str]:
        """What is written for an error now: nothing where it is counted for later."""
        for window in self.windows:
            if window.matches(text):
                first = window.count == 0
                if first:
                    window.due_s = now_s + window.option.duration_s
                    if window.option.show_first:
                        return self._shown(window, text)
                window.count += 1
                return []
        return [f"[ERROR] plugin/errors: {text}"]

    @staticmethod
    def _shown(window: _Window, text: str) -> list[str]:
        # CoreDNS 1.14: the first is written as it is, and counts.
        window.count = 1
        return [f"[{window.option.level.upper()}] plugin/errors: {text}"]

    def due(self, now_s: float, at_once: bool = False) -> list[str]:
        """Lines of the windows that have ended."""
        found = []
        for window in self.windows:
            if window.count and (at_once or now_s >= window.due_s):
                one = window.option
                if not (one.show_first and window.count == 1):
                    found.append(
                        f"[{one.level.upper()}] plugin/errors: {window.count} errors like '{one.regex}'"
                        f" occurred in last {go_duration(one.duration_s)}"
                    )
                window.count = 0
        return found


def go_duration(seconds: float) -> str:
    """A duration as Go prints it: 30s, 5m0s, 1h0m0s, 1.5s, 500ms."""
    if seconds < 1:
        for unit, scale in (("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
            if seconds * scale >= 1:
                return f"{seconds * scale:.6f}".rstrip("0").rstrip(".") + unit
        return "0s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def error_text(record: "ErrorRecord", names: Names) -> str:
    """`2 example.org. A: read udp ->10.0.0.10:53: i/o timeout`: CoreDNS's text, less our own port.

    The port that was used is one of many and closed by now; the arrow stays for those who search for it.
    """
    _zone, rcode, qtype, upstream, code, kind, tcp, name, text = record
    to = names.upstreams.get(upstream, "")
    proto = "tcp" if tcp else "udp"
    if kind == _TIMEOUT:
        reason = f"read {proto} ->{to}: i/o timeout"
    elif kind == _REFUSED and code in _TLS_REASONS:
        reason = _TLS_REASONS[code]
    elif kind == _REFUSED and tcp:
        reason = f"dial tcp {to}: connect: {_errno_text(code)}"
    elif kind == _REFUSED:
        reason = f"read udp ->{to}: read: {_errno_text(code)}"
    else:
        reason = {
            _NO_PROXY: "no healthy proxies",
            _NO_NEXT: "plugin/forward: no next plugin found",
            _BUSY: "too many questions are under way",
        }.get(kind, "failed")
    if kind == _CONCURRENT:
        reason = f"concurrent queries exceeded maximum {_printable(text)}"
    elif text:
        reason = _printable(text)
    return f"{rcode} {name} {TYPES.get(qtype) or f'TYPE{qtype}'}: {reason}"


#: Codes of connections with TLS (coordinator/_tls.pxd). Why a certificate is refused says a line of its own.
_TLS_REASONS = {
    errno.EKEYREJECTED: "tls: failed to verify certificate",
    errno.EPROTO: "tls: handshake failure",
}


def _errno_text(code: int) -> str:
    return os.strerror(code or errno.ECONNREFUSED).lower()


def _printable(text: bytes) -> str:
    # It may hold what a client sent: no line of its own making.
    return "".join(char if char.isprintable() else "?" for char in text.decode(errors="replace"))


class Writer:
    """Lines to stdout, never waiting for whoever reads it."""

    def __init__(self, ledger: "Ledger", descriptor: int = _STDOUT) -> None:
        self._ledger = ledger
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        """Write whole lines; returns how many were dropped.

        A pipe that says it has room takes PIPE_BUF octets at once, so pieces are no longer than that, and end
        with a line where a line is no longer than that: other processes write there, too.
        """
        start = 0
        while start < len(data):
            end = len(data)
            if end - start > _PIPE_BUF:
                end = data.rfind(b"\n", start, start + _PIPE_BUF) + 1 or start + _PIPE_BUF
            if not any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                break
            try:
                start += os.write(self._descriptor, data[start:end])
            except OSError:
                break
        dropped = data.count(b"\n", start)
        if dropped:
            self._ledger.add("lines_dropped", dropped)
        return dropped


class LogPump:
    """Empties the rings. ``pump`` is called as often as it says."""

    def __init__(self, logs: Sequence[int], writer: Writer, log_state: Callable[[], int]) -> None:
        """log_state: how many records have found a ring full so far. Raises SegmentError."""
        self._readers = [LogReader(one, texts()) for one in logs]
        self._writer = writer
        self._log_state = log_state
        self._out = Out()
        self._rules: list[list[Rule]] = []
        self._errors: dict[int, BlockErrors] = {}  # by zone
        self._names = Names()
        self._zones: dict[int, str] = {}
        self._dropped = log_state()
        self._lost = 0
        self._say_s = 0.0
        self._invalid = 0

    def apply(self, config: "Config", corefile: "Corefile | None", names: Names) -> None:
        """From now on this configuration's lines. What is being consolidated is written at once."""
        if self._zones:  # what came before the first configuration is shown under that
            self.flush()
        self._names = names
        self._zones = {i: zone.name for i, zone in enumerate(config.zones) if zone is not None}
        blocks = block_of_zone(config, corefile)
        rules = {id(block): [make_rule(one) for one in block.log] for block in blocks.values()}
        errors = {
            id(block): BlockErrors.of(block.errors) for block in blocks.values() if block.errors is not None
        }
        count = len(config.zones)
        self._rules = [rules[id(blocks[i])] if i in blocks else [] for i in range(count)]
        self._errors = {i: errors[id(block)] for i, block in blocks.items() if id(block) in errors}
        texts_of = {i: one.endpoint for i, one in enumerate(config.listeners) if one is not None}
        local = [
            "" if i not in texts_of or texts_of[i].wildcard else _host(texts_of[i].host)
            for i in range(len(config.listeners))
        ]
        for reader in self._readers:
            reader.set_locals(local)

    @property
    def batch(self) -> int:
        """As many records at once mean that there are more."""
        return BATCH

    @property
    def logs_queries(self) -> bool:
        """Whether any zone has a `log` line."""
        return any(self._rules)

    def pump(self, now_s: float) -> int:
        """Write what is there; returns how many records there were. now_s: of time.monotonic."""
        errors: list[ErrorRecord] = []
        taken = take(self._readers, self._rules, self._out, errors, BATCH)
        lines = [line for record in errors for line in self._error_lines(record, now_s)]
        for one in {id(one): one for one in self._errors.values()}.values():
            lines += one.due(now_s)
        self._put(self._out.take(), lines)
        self._report(now_s)
        return taken

    def flush(self, now_s: float = 0.0) -> None:
        """Write what is there and what is held back."""
        if not self._readers:
            return
        while self.pump(now_s) > 0:
            pass
        lines = []
        for one in {id(one): one for one in self._errors.values()}.values():
            lines += one.due(now_s, at_once=True)
        self._put(b"", lines)

    def _put(self, data: bytes, lines: list[str]) -> None:
        if lines:
            data += "".join(f"{line}\n" for line in lines).encode(errors="replace")
        if data:
            self._lost += self._writer.write(data)

    def _error_lines(self, record: "ErrorRecord", now_s: float) -> list[str]:
        if record[5] == _LOOP:
            return [self._loop_line(record)]
        errors = self._errors.get(record[0])
        return [] if errors is None else errors.lines(error_text(record, self._names), now_s)

    def _loop_line(self, record: "ErrorRecord") -> str:
        """Said whatever `errors` is: an upstream less is an operator's business. CoreDNS leaves with this."""
        zone, _, qtype, upstream, _, _, _, name, _ = record
        to = self._names.upstreams.get(upstream, "?")
        scope = self._zones.get(zone, ".")
        return (
            f'[ERROR] plugin/loop: Loop ({to} -> us) detected for zone "{scope}": {to} is not asked for a'
            f' while. Query: "{TYPES.get(qtype, qtype)} {name}"'
        )

    def _report(self, now_s: float) -> None:
        if now_s < self._say_s:
            return
        full = self._log_state()
        invalid = sum(reader.invalid for reader in self._readers)
        lost = (full - self._dropped) + self._lost + (invalid - self._invalid)
        if lost > 0:
            own_log.warning(
                f"log: {lost} lines dropped: {full - self._dropped} because the ring was full,"
                f" {self._lost} because nobody read stdout, {invalid - self._invalid} unreadable"
            )
            self._say_s = now_s + _SAY_AGAIN_S
        self._dropped, self._lost, self._invalid = full, 0, invalid


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
