# SPDX-License-Identifier: Apache-2.0
"""What a word of a Corefile may be. Each kind says what it expects and reads one word (``declare.Kind``)."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastdns.control.addresses import Endpoint, parse_endpoint, parse_ip
from fastdns.control.config import names
from fastdns.control.config.numbers import QCLASSES, QTYPES, RCODES, name_of
from fastdns.errors import UsageError
from fastdns.gotemplate import TemplateError, parse_template

_INT_DIGITS_MAX: Final = 18  #: more can't be meant, and Python takes its time over long ones


class BaseKind:
    """What the kinds share."""

    __slots__ = ()

    def show(self, value: Any) -> str:
        """A value as the file would have it."""
        return str(value)

    @property
    def known(self) -> Iterable[str]:
        """Words that it knows by name."""
        return ()


@dataclass(frozen=True, slots=True)
class Int(BaseKind):
    """A plain decimal number."""

    low: int = 0
    high: int = 2**31 - 1
    what: str = "number"

    @property
    def expected(self) -> str:
        if self.high >= 2**31 - 1:
            return f"a {self.what}, {self.low} or more"
        return f"a {self.what} from {self.low} to {self.high}"

    def parse(self, text: str) -> int:
        if not re.fullmatch(rf"-?[0-9]{{1,{_INT_DIGITS_MAX}}}", text, re.ASCII):
            raise ValueError
        value = int(text)
        if not self.low <= value <= self.high:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class Fraction(BaseKind):
    """A decimal number from 0 to 1."""

    expected: str = "a number from 0 to 1"

    def parse(self, text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,18})?|\.[0-9]{1,18}", text, re.ASCII) or float(text) > 1:
            raise ValueError
        return float(text)


_DURATION_PART: Final = re.compile(r"([0-9]{0,18})(?:\.([0-9]{0,18}))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION_UNITS: Final = {
    "ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0
}  # fmt: skip
_DURATION_MAX: Final = 2**63 / 1e9  #: s; a Go duration is 64 bits of nanoseconds


@dataclass(frozen=True, slots=True)
class Duration(BaseKind):
    """A Go duration (``30s``, ``1h30m``), in seconds."""

    low: float = 0.0
    high: float = _DURATION_MAX
    bare_seconds: bool = False  #: a bare number is taken as seconds

    @property
    def expected(self) -> str:
        if self.high < _DURATION_MAX:
            limits = f" from {duration_text(self.low)} to {duration_text(self.high)}"
        elif self.low > 0:
            limits = f" of at least {duration_text(self.low)}"
        else:
            limits = ""
        return f"a duration{limits} such as 30s, 500ms or 1h30m"

    def show(self, value: float) -> str:
        """As people write it."""
        return duration_text(value)

    def parse(self, text: str) -> float:
        value = self._seconds(text)
        if not self.low <= value <= self.high:
            raise ValueError
        return value

    def _seconds(self, text: str) -> float:
        if text in ("0", "+0", "-0"):
            return 0.0
        if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
            if self.bare_seconds:
                return float(text)
            raise ValueError(f"no unit, {text}s is {text} seconds")
        rest, total = text.removeprefix("+"), 0.0
        while rest:
            part = _DURATION_PART.match(rest)
            if not part or not (part[1] or part[2]):
                raise ValueError
            total += float(f"{part[1] or 0}.{part[2] or 0}") * _DURATION_UNITS[part[3]]
            rest = rest[part.end() :]
        if not text.strip("+"):
            raise ValueError
        return total


def duration_text(seconds: float) -> str:
    """A duration as people write it: 1h30m, 2s, 500ms."""
    if seconds != 0 and seconds < 1:
        return f"{seconds * 1000:g}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{value:g}{unit}" for value, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if value]
    return "".join(parts) or "0s"


@dataclass(frozen=True, slots=True)
class Choice(BaseKind):
    """One of a few words."""

    words: tuple[str, ...]
    any_case: bool = False

    @property
    def expected(self) -> str:
        return " or ".join((", ".join(self.words[:-1]), self.words[-1])) if self.words[1:] else self.words[0]

    @property
    def known(self) -> Iterable[str]:
        """The words."""
        return self.words

    def parse(self, text: str) -> str:
        word = text.lower() if self.any_case else text
        if word not in self.words:
            raise ValueError
        return word


@dataclass(frozen=True, slots=True)
class Bool(BaseKind):
    """What Go's strconv.ParseBool takes."""

    expected: str = "true or false"

    def show(self, value: bool) -> str:
        """In lower case."""
        return str(value).lower()

    def parse(self, text: str) -> bool:
        if text in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if text in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise ValueError


@dataclass(frozen=True, slots=True)
class Text(BaseKind):
    """Any word that isn't empty."""

    expected: str = "a word"

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError
        return text


@dataclass(frozen=True, slots=True)
class Name(BaseKind):
    """A domain name, made absolute and lower-case."""

    expected: str = "a domain name"

    def parse(self, text: str) -> str:
        return names.absolute(text)


@dataclass(frozen=True, slots=True)
class Zones(BaseKind):
    """A domain name, or a network as its reverse zones; the value is a tuple."""

    expected: str = "a domain name, or a network such as 10.0.0.0/8"

    def show(self, value: str | tuple[str, ...]) -> str:
        """One zone, or all that a word stands for."""
        return value if isinstance(value, str) else " ".join(value)

    def parse(self, text: str) -> tuple[str, ...]:
        return names.zones(text)


@dataclass(frozen=True, slots=True)
class Percent(BaseKind):
    """A share with its sign: ``10%``."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        return f"a percentage from {self.low}% to {self.high}%"

    def show(self, value: int) -> str:
        """With its sign."""
        return f"{value}%"

    def parse(self, text: str) -> int:
        if not text.endswith("%"):
            raise ValueError
        return Int(self.low, self.high).parse(text[:-1])


_SIZE: Final = re.compile(r"([0-9]{1,12})(?:([KMG])(?:i?B)?)?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True)
class Size(BaseKind):
    """Octets, with K, M or G for powers of 1024."""

    low: int = 0

    @property
    def expected(self) -> str:
        least = f", of {self.low // 2**20}M at least" if self.low else ""
        return f"a size such as 16M, 64MiB or 1G{least}"

    def show(self, value: int) -> str:
        """With the largest unit that fits."""
        unit = next((unit for unit in "GMK" if value and value % _SIZE_UNITS[unit] == 0), "")
        return f"{value // _SIZE_UNITS[unit]}{unit}"

    def parse(self, text: str) -> int:
        match = _SIZE.fullmatch(text)
        if not match:
            raise ValueError
        value = int(match[1]) * _SIZE_UNITS[(match[2] or "").upper()]
        if value < self.low:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class Rcode(BaseKind):
    """A response code by name, in numbers where ``numeric`` allows it."""

    numeric: bool = False
    but: tuple[int, ...] = ()

    @property
    def expected(self) -> str:
        but = ", ".join(name for name, value in RCODES.items() if value in self.but)
        return (
            "a response code such as NXDOMAIN"
            + (" or 3" if self.numeric else "")
            + (f", but not {but}" if but else "")
        )

    @property
    def known(self) -> Iterable[str]:
        """The names."""
        return RCODES

    def show(self, value: int) -> str:
        """Its name."""
        return name_of(RCODES, value)

    def parse(self, text: str) -> int:
        value = RCODES.get(text.upper())
        if value is None and self.numeric:
            value = Int(0, 23).parse(text)
        if value is None or value in self.but:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class QType(BaseKind):
    """A query type by name."""

    expected: str = "a query type such as AAAA"

    @property
    def known(self) -> Iterable[str]:
        """The names."""
        return QTYPES

    def show(self, value: int) -> str:
        """Its name."""
        return name_of(QTYPES, value)

    def parse(self, text: str) -> int:
        if text not in QTYPES:
            raise ValueError
        return QTYPES[text]


@dataclass(frozen=True, slots=True)
class QClass(BaseKind):
    """A class by name."""

    expected: str = "IN, CH, HS, CS, NONE or ANY"

    @property
    def known(self) -> Iterable[str]:
        """The names."""
        return QCLASSES

    def show(self, value: int) -> str:
        """Its name."""
        return name_of(QCLASSES, value)

    def parse(self, text: str) -> int:
        if text not in QCLASSES:
            raise ValueError
        return QCLASSES[text]


@dataclass(frozen=True, slots=True)
class Network(BaseKind):
    """An address with a prefix length, in canonical text."""

    expected: str = "a network such as 10.0.0.0/8 or 2001:db8::/32"

    def parse(self, text: str) -> str:
        if "/" not in text or not text.partition("/")[2].isdigit():
            raise ValueError
        try:
            return str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise ValueError from None


@dataclass(frozen=True, slots=True)
class Prefix64(BaseKind):
    """A prefix for DNS64, RFC 6052 section 2.2."""

    expected: str = "an IPv6 prefix with a length of 32, 40, 48, 56, 64 or 96"

    def parse(self, text: str) -> str:
        network = ipaddress.ip_network(Network().parse(text))
        if network.version != 6 or network.prefixlen not in (32, 40, 48, 56, 64, 96):
            raise ValueError
        return str(network)


@dataclass(frozen=True, slots=True)
class Address(BaseKind):
    """An IP address, in canonical text."""

    expected: str = "an IP address"

    def parse(self, text: str) -> str:
        try:
            return parse_ip(text)
        except UsageError:
            raise ValueError from None


@dataclass(frozen=True, slots=True)
class EndpointKind(BaseKind):
    """``ADDR``, ``ADDR:PORT`` or ``[IPV6]:PORT``."""

    expected: str = "an IP address, ADDR:PORT, or [IPV6]:PORT"

    def parse(self, text: str) -> Endpoint:
        try:
            return parse_endpoint(text)
        except UsageError:
            raise ValueError from None


@dataclass(frozen=True, slots=True)
class HttpAddress(BaseKind):
    """Where an HTTP server listens: ``:8080``, ``localhost:9153``; the value is (host, port)."""

    expected: str = "ADDR:PORT or :PORT"

    def show(self, value: tuple[str, int]) -> str:
        """``ADDR:PORT``."""
        host, port = value
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def parse(self, text: str) -> tuple[str, int]:
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError("no colon and port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if Address().parse(host).find(":") < 0:
                raise ValueError
        elif ":" in host or not re.fullmatch(r"[A-Za-z0-9._-]{0,253}", host):
            raise ValueError
        return host, Int(0, 65535, "port").parse(port)


@dataclass(frozen=True, slots=True)
class File(BaseKind):
    """A path."""

    expected: str = "a file"

    def parse(self, text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError
        return Path(text)


REGEX_MAX: Final = 10000  #: characters, as CoreDNS 1.14


def group_count(regex: str) -> int:
    """The number of groups of a regular expression. Raises ValueError where it is none."""
    if len(regex) > REGEX_MAX:
        raise ValueError(f"it has {len(regex)} characters, {REGEX_MAX} are allowed")
    import re2  # 2 MiB, and few files have one

    options = re2.Options()
    options.log_errors = False
    try:
        return int(re2.compile(regex, options).groups)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else reason) from None


@dataclass(frozen=True, slots=True)
class Regex(BaseKind):
    """A regular expression of Go's syntax, which is RE2's."""

    expected: str = "a regular expression (RE2 syntax)"

    def parse(self, text: str) -> str:
        if len(text) > REGEX_MAX:
            raise ValueError(f"it has {len(text)} characters, {REGEX_MAX} are allowed")
        import re2  # 2 MiB, and few files have one

        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(text, options)
        except re2.error as error:
            reason = error.args[0]
            raise ValueError(
                reason.decode(errors="replace") if isinstance(reason, bytes) else reason
            ) from None
        return text


@dataclass(frozen=True, slots=True)
class Template(BaseKind):
    """A Go template of a record."""

    expected: str = "a record, with {{ }} of Go templates"

    def parse(self, text: str) -> str:
        try:
            parse_template(text)
        except TemplateError as error:
            raise ValueError(str(error)) from None
        return text
