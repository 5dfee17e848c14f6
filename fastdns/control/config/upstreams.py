# SPDX-License-Identifier: Apache-2.0
"""The words of `forward` as upstreams."""

import os.path
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fastdns.control.addresses import Endpoint, parse_endpoint, parse_port
from fastdns.control.config.forward import Forward, HealthCheck, Tls, To
from fastdns.control.config.kinds import Name
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, shown
from fastdns.control.config.reader import Given, Reader
from fastdns.control.resolvconf import nameservers
from fastdns.errors import UsageError

PORTS: Final = {"dns": 53, "tls": 853, "https": 443}

#: What can only be meant as a host's name, with a port or without.
_HOST_NAME: Final = re.compile(r"(?=.*[A-Za-z].*)[A-Za-z0-9_.-]{1,253}(:[0-9]{1,5})?")

TOS_MAX: Final = 15  #: upstreams of a `forward`, files expanded, as node-cache


def forward(given: Given) -> None:
    """The words after the base name as upstreams; the words of `health_check`."""
    name, values, reader = given.directive.name, given.values, given.reader
    found = [
        to for word in given.directive.words[1:] for to in _upstreams(word, reader, "resolver" in values)
    ]
    values["to"] = tuple(_asked_from(found, values.get("source_address", ""), name, reader))
    count = sum(max(len(to.endpoints), 1) for to in found)
    if count > TOS_MAX:
        reader.problem(name, f"found {count} upstreams, expected at most {TOS_MAX}")
    if values.get("tls_servername") and any(to.server_name for to in found):
        reader.problem(name, "found a name after % beside 'tls_servername', expected one of them")
    if values.get("tls") is not None:
        _tls_files(values["tls"], given.option_words("tls"), reader)
    if values.get("read_timeout_s") == 0:
        word = given.option_words("read_timeout")[-1]
        reader.problem(word, f"found {shown(word.text)} of 'read_timeout', expected more than 0s")
    check = values.get("health_check")
    if check is not None:
        lines = [line for line in given.directive.body if line[0].text == "health_check"]
        values["health_check"] = _health_check(check.interval_s, lines[-1][2:], reader)


def _asked_from(found: Sequence[To], source: str, name: Token, reader: Reader) -> Iterator[To]:
    """Those that can be asked from this address; "": all of them."""
    for to in found:
        left = of_family(to.endpoints, source)
        for endpoint in to.endpoints:
            if endpoint not in left:
                reader.warning(name, f"{endpoint} is not asked: there is no way to it from {source}")
        if left or to.host:
            yield replace(to, endpoints=left)


def of_family(endpoints: Sequence[Endpoint], source: str) -> tuple[Endpoint, ...]:
    """Those that are of the family of this address; "": all of them."""
    return tuple(one for one in endpoints if not source or one.family == Endpoint(source, 0).family)


def each_zone(plugin: Forward) -> tuple[Forward, ...]:
    """A line for each zone of the base name."""
    return tuple(replace(plugin, zone=zone) for zone in plugin.zones)


def _tls_files(tls: Tls, words: Sequence[Token], reader: Reader) -> None:
    """That the files of `tls` are there, and are what they should be."""
    reader.end_of_line(words[3:])
    missing = [word for word in words[:3] if not os.path.isfile(word.text)]  # noqa: PTH113
    for word in missing:
        reader.problem(word, f"found {shown(word.text)} of 'tls', expected a file that exists")
    if missing or len(words) not in (1, 2, 3):
        return
    from fastdns.tlscontext import client_context  # OpenSSL is 3 MiB: only for those who use it

    try:
        client_context(tls.ca, tls.own)
    except OSError as error:
        reader.problem(words[0], f"found {error} in the files of 'tls', expected [CERT KEY] [CA] in PEM")


def _health_check(interval_s: float, words: Sequence[Token], reader: Reader) -> HealthCheck:
    no_rec, domain, left = False, ".", list(words)
    while left:
        word = left.pop(0)
        if word.text == "no_rec":
            no_rec = True
        elif word.text != "domain":
            hint = nearest(word.text, ("no_rec", "domain"))
            what = f"found {shown(word.text)} of 'health_check'"
            reader.problem(word, f"{what}, expected no_rec, or domain NAME{hint}")
        elif not left:
            reader.problem(word, "found nothing after 'domain', expected a domain name")
        else:
            found = reader.value(Name(), left.pop(0), " of 'health_check'")
            domain = str(found)
    texts = tuple(word.text for word in words)
    return HealthCheck(interval_s=interval_s, words=texts, no_rec=no_rec, domain=domain)


def _upstreams(word: Token, reader: Reader, names_allowed: bool) -> list[To]:
    text = word.text
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "dns", text
    try:
        if scheme not in PORTS:
            raise UsageError(f"found {shown(text)}, expected an upstream of dns, tls or https")
        address, slash, path = rest.partition("/") if scheme == "https" else (rest, "", "")
        server_name = ""
        if scheme != "dns":
            address, server_name = _split_server_name(address)
        to = To(text, scheme, (), server_name, http_path=slash + path)
        return [_resolved(to, address, names_allowed, file_allowed=not separator)]
    except UsageError as error:
        reader.problem(word, str(error))
        return []


def _resolved(to: To, address: str, names_allowed: bool, file_allowed: bool) -> To:
    """``to`` with what its address stands for. Raises UsageError."""
    try:
        return replace(to, endpoints=(parse_endpoint(address, PORTS[to.scheme]),))
    except UsageError as error:
        reason = error
    if file_allowed and os.path.isfile(address):  # noqa: PTH113  # Path.is_file() raises for odd names
        servers = tuple(nameservers(Path(address)))
        if not servers:
            raise UsageError(f"found no nameserver in {shown(address)}, expected one at least")
        return replace(to, endpoints=servers, file=Path(address))
    if _HOST_NAME.fullmatch(address) and not address.startswith("__"):
        if names_allowed:
            _, _, port = address.partition(":")
            if port:
                parse_port(port)
            return replace(to, host=address)
        hint = "a host's name needs the option 'resolver'"
    elif address.startswith("__PILLAR__"):
        hint = "node-cache replaces it: look at the Corefile that it writes"
    else:
        hint = "there is no such file" if "/" in address else str(reason)
    raise UsageError(f"found {shown(to.text)}, expected an IP address or a file with nameservers ({hint})")


def _split_server_name(text: str) -> tuple[str, str]:
    """ADDR and NAME of ``ADDR%NAME``; a link-local ADDR has a % of its own for the interface."""
    address, percent, name = text.rpartition("%")
    if not percent or "]" in name or (address.startswith("fe80:") and "%" not in address):
        return text, ""
    return address, name
