# SPDX-License-Identifier: Apache-2.0
"""The ConfigMap kube-dns, as node-cache reads it (corefile.md 6.4): a folder with a file for each key."""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastdns.control.addresses import parse_endpoint
from fastdns.errors import UsageError

KEYS: Final = ("federations", "stubDomains", "upstreamNameservers")
UPSTREAMS_MAX: Final = 3

_OCTETS_MAX: Final = 1 << 20  # the API server takes no larger ConfigMap
_READS_MAX: Final = 3
_SHOWN_MAX: Final = 200  # characters of a wrong value in a line of the log
_CURRENT: Final = "..data"  # the kubelet's link to the folder of the moment
_LABEL: Final = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DNS_LABEL: Final = re.compile(_LABEL)
_DNS_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class ConfigMapError(UsageError):
    """A ConfigMap, or a file of one, that can't be read or doesn't say what it should."""


@dataclass(frozen=True, slots=True)
class KubeDNS:
    """What the ConfigMap says that node-cache acts on. Servers are text, as they were written."""

    stub_domains: tuple[tuple[str, tuple[str, ...]], ...] = ()  #: in order of their names
    upstreams: tuple[str, ...] = ()


def read_text(file: Path) -> str:
    """A file of a ConfigMap. Raises OSError, ConfigMapError."""
    with file.open("rb") as opened:
        data = opened.read(_OCTETS_MAX + 1)
    if len(data) > _OCTETS_MAX:
        raise ConfigMapError(f"{file}: expected at most {_OCTETS_MAX} octets")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigMapError(f"{file}: non-utf8 data at octet {error.start}") from None


def read_keys(folder: Path) -> dict[str, str]:
    """The keys that count, with their text. Raises OSError, ConfigMapError.

    The kubelet replaces the whole folder by moving one link: texts from before and after are not mixed.
    """
    for _ in range(_READS_MAX):
        before = _version(folder)
        found = {}
        for key in KEYS:
            try:
                found[key] = read_text(folder / key)
            except FileNotFoundError:
                continue
        if _version(folder) == before:
            return found
    raise ConfigMapError(f"{folder}: changed each time that it was read")


def _version(folder: Path) -> str:
    """What the kubelet's link leads to; "" where there is none. Raises OSError, ConfigMapError."""
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise ConfigMapError(f"config path {str(folder)!r} is not a directory")
    link = folder / _CURRENT
    return str(link.readlink()) if link.is_symlink() else ""


def parse(texts: Mapping[str, str]) -> KubeDNS:
    """The ConfigMap's meaning, all of it checked. Raises ConfigMapError."""
    _check_federations(texts.get("federations", ""))
    return KubeDNS(
        stub_domains=_stub_domains(texts.get("stubDomains")),
        upstreams=_upstreams(texts.get("upstreamNameservers")),
    )


def _check_federations(text: str) -> None:
    """node-cache makes no use of them, but takes no ConfigMap in which they are wrong."""
    for pair in text.split(",") if text.strip() else []:
        name, equals, domain = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ConfigMapError(f"federations: expected name=domain, found {pair.strip()!r}")
        if not _DNS_LABEL.fullmatch(name):
            raise ConfigMapError(f"federations: {name!r} is not a valid federation name")
        if not _is_domain(domain):
            raise ConfigMapError(f"federations: {domain!r} is not a valid domain name")


def _stub_domains(text: str | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    value = _json("stubDomains", text)
    if not isinstance(value, dict | None):
        raise ConfigMapError(
            f"stubDomains: expected a map of domains to lists of servers, found {_shortened(repr(text))}"
        )
    found = []
    for domain, servers in sorted((value or {}).items()):
        if not _is_domain(domain):
            raise ConfigMapError(f"stubDomains: invalid domain name: {domain!r}")
        words = _servers(f"stubDomains: {domain}", servers)
        if not words:
            raise ConfigMapError(f"stubDomains: {domain}: expected at least one server")
        found.append((domain, words))
    return tuple(found)


def _upstreams(text: str | None) -> tuple[str, ...]:
    words = _servers("upstreamNameservers", _json("upstreamNameservers", text))
    if len(words) > UPSTREAMS_MAX:
        raise ConfigMapError(f"upstreamNameservers: found {len(words)}, expected at most {UPSTREAMS_MAX}")
    return words


def _json(key: str, text: str | None) -> object:
    """The JSON value; None for a key that isn't there, and for null."""
    if text is None:
        return None
    import orjson  # most have no such ConfigMap, and no need of it

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigMapError(f"{key}: Invalid JSON {_shortened(repr(text))}: {error}") from None


def _servers(where: str, value: object) -> tuple[str, ...]:
    """A JSON list of ``IP`` or ``IP:port``."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ConfigMapError(f"{where}: expected a list of texts, found {_shortened(repr(value))}")
    for word in value:
        try:
            parse_endpoint(word)
        except UsageError as error:
            raise ConfigMapError(f"{where}: invalid nameserver: {error}") from None
        if "%" in word:  # in a Corefile that begins the name of a TLS server
            raise ConfigMapError(f"{where}: invalid nameserver: {word!r}: expected no interface")
    return tuple(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."


def _is_domain(text: str) -> bool:
    return len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text) is not None
