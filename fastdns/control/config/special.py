# SPDX-License-Identifier: Apache-2.0
"""What the declarations can't say of a plugin's words: each function finishes the values of one plugin.

They change the values in place, and note problems. `bind`, `forward` and `rewrite` have modules of their own.
"""

import ipaddress
import os.path
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fastdns.control.config import names
from fastdns.control.config.cache import CACHE_CAPACITY, CACHE_TTLS, CacheClass
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, shown
from fastdns.control.config.plugins import DNS64_PREFIX, HostsLine
from fastdns.control.config.reader import Given
from fastdns.gotemplate import parse_template

#: `{common}` of `log`, which is also what is written where no format is said.
LOG_COMMON: Final = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}"'
    " {rcode} {>rflags} {rsize} {duration}"
)
_LOG_COMBINED: Final = f'{LOG_COMMON} "{{>opcode}}"'

_RECORDS: Final = ("answer", "additional", "authority")

#: What a template may use of a question; of its message, what queries that share an answer have in common.
_TEMPLATE_FIELDS: Final = (
    "Zone", "Name", "Class", "Type", "Match", "Group", "Regex", "Message", "Question", "Remote", "Meta"
)  # fmt: skip
_MESSAGE_FIELDS: Final = (
    "Response", "Opcode", "Authoritative", "Truncated", "RecursionDesired", "RecursionAvailable", "Zero",
    "CheckingDisabled", "Rcode", "Compress", "Question", "Answer", "Ns",
)  # fmt: skip

#: Octets of `ederror`'s text: with it an OPT fits beside any question into 512.
_EDERROR_TEXT_MAX: Final = 128

_TRACE_ENDPOINTS: Final = {"zipkin": "localhost:9411", "datadog": "localhost:8126"}


def fallthrough(given: Given) -> None:
    """`fallthrough` without zones is for all names."""
    if given.values.get("fallthrough") == ():
        given.values["fallthrough"] = (".",)


def hosts(given: Given) -> None:
    """See fallthrough; a file that isn't there is no error, it may come."""
    fallthrough(given)
    given.values["inline"] = tuple(given.values.get("inline", ()))
    words = given.directive.words
    # Path.exists() raises where a folder may not be looked into, and for a name that is too long.
    if words and not os.path.exists(words[0].text):  # noqa: PTH110
        given.reader.warning(words[0], f"there is no file {shown(words[0].text)} yet")


def hosts_line(given: Given, line: Sequence[Token]) -> bool:
    """A line of the block that is no option: ``IP name...``, as in a hosts file."""
    first, reader = line[0], given.reader
    if "fallthrough" in given.values:
        return False
    try:
        address = str(ipaddress.ip_address(first.text))
    except ValueError:
        if nearest(first.text, ("ttl", "no_reverse", "reload", "fallthrough")):
            return False
        what = f"found {shown(first.text)}, expected an IP address or an option"
        reader.warning(first, f"{what}; the line is left out, as in node-cache")
        return True
    found = []
    for word in line[1:]:
        try:
            found.append(names.absolute(word.text))
        except ValueError as error:
            reader.problem(word, f"found {shown(word.text)}, expected a host's name ({error})")
    if not found:
        reader.warning(first, f"found no name after {first.text!r}; the line is left out, as in node-cache")
        return True
    given.values.setdefault("inline", []).append(HostsLine(address=address, names=tuple(found)))
    return True


def cache(given: Given) -> None:
    """Each class gets its TTL; how many times `serve_stale` takes depends on its mode."""
    both = given.values.get("ttl_s")
    for name, default_s in CACHE_TTLS.items():
        bounds = given.values.get(name, CacheClass(capacity=CACHE_CAPACITY))
        ttl_max_s = bounds.ttl_max_s or both or default_s
        given.values[name] = replace(bounds, ttl_max_s=ttl_max_s)
    stale = given.values.get("serve_stale")
    if stale is None:
        return
    most = 3 if stale.mode == "verify" else 2
    if len(stale.times_s) > most:
        word = given.option_words("serve_stale")[-1]
        given.reader.problem(
            word, f"found {shown(word.text)}, expected at most {most} times after {stale.mode!r}"
        )


def dns64(given: Given) -> None:
    """The option's prefix goes before the argument's."""
    given.values["prefix"] = given.values.get("option_prefix") or given.values.get("argument") or DNS64_PREFIX


def loadbalance(given: Given) -> None:
    """A file and `reload` are for `weighted`, `prefer` for the other policy."""
    words, reader = given.directive.words, given.reader
    weighted = given.values.get("policy") == "weighted"
    if weighted and "file" not in given.values:
        reader.problem(words[0], "found nothing after 'weighted', expected a file with weights")
    if not weighted and "file" in given.values:
        reader.problem(words[1], f"found {shown(words[1].text)}, expected the end of the line")
    for line in given.directive.body:
        if line[0].text == "reload" and not weighted:
            reader.problem(line[0], "found option 'reload', expected it with 'weighted' only")
        if line[0].text == "prefer" and weighted:
            reader.problem(line[0], "found option 'prefer', expected it without 'weighted' only")


def log(given: Given) -> None:
    """Names and format: of two words or more the last is the format if it has a placeholder."""
    words = list(given.directive.words)
    form = LOG_COMMON
    if len(words) >= 2 and "{" in words[-1].text:
        form = words.pop().text.replace("{common}", LOG_COMMON).replace("{combined}", _LOG_COMBINED)
    zones = []
    for word in words:
        try:
            zones.append(names.absolute(word.text))
        except ValueError as error:
            given.reader.problem(word, f"found {shown(word.text)}, expected a domain name ({error})")
    given.values.update(zones=tuple(zones) or (".",), format=form)


def pprof(given: Given) -> None:
    """One RATE at most."""
    for line in given.directive.body:
        given.reader.end_of_line(line[2:])


def reload(given: Given) -> None:
    """At most half of the interval is jitter, and none or 1 s at least."""
    jitter_s = given.values.get("jitter_s", 15.0)
    if 0 < jitter_s < 1:
        word = given.directive.words[1]
        given.reader.problem(word, f"found {shown(word.text)} as JITTER, expected 0s, or 1s at least")
    given.values["jitter_s"] = min(jitter_s, given.values.get("interval_s", 30.0) / 2)


def template(given: Given) -> None:
    """See fallthrough; a field that no question has fails each time, in node-cache too."""
    fallthrough(given)
    told = given.values.get("ederror")
    if told is not None and len(told.text.encode()) > _EDERROR_TEXT_MAX:
        what = f"found a text of {len(told.text.encode())} octets, expected {_EDERROR_TEXT_MAX} at most"
        given.reader.problem(given.option_words("ederror")[-1], what)
    for word in (word for name in _RECORDS for word in given.option_words(name)):
        for path in sorted(parse_template(word.text).fields):
            known = _MESSAGE_FIELDS if path[:1] == ("Message",) and len(path) > 1 else _TEMPLATE_FIELDS
            field = path[1] if known is _MESSAGE_FIELDS else path[0]
            if field not in known:
                what = f"found field {shown('.' + '.'.join(path))}, which a question doesn't have"
                given.reader.warning(word, f"{what}: SERVFAIL{nearest(field, known)}")


def template_line(given: Given, line: Sequence[Token]) -> bool:
    """What CoreDNS 1.14.7 has in a language of its own."""
    option = line[0].text
    if option not in ("var", "expr"):
        return False
    what = f"found option {option!r}, expected none in CoreDNS's expression language"
    given.reader.problem(line[0], f"{what}, which fastdns doesn't have")
    return True


def timeouts(given: Given) -> None:
    """One of them must be said, and no connection can do with no query."""
    if not given.directive.body:
        expected = "one of read, write, idle, maxtcpqueries"
        given.reader.problem(given.directive.name, f"found no option, expected {expected}")
    if given.values.get("maxtcpqueries") == 0:
        word = given.option_words("maxtcpqueries")[-1]
        given.reader.problem(word, "found '0' of 'maxtcpqueries', expected 1 or more, or -1 for no limit")


def trace(given: Given) -> None:
    """TYPE and ENDPOINT; one word alone is the endpoint, unless it names a type."""
    words = [word.text for word in given.directive.words]
    given.reader.end_of_line(given.directive.words[2:])
    kind = "zipkin"
    if words and words[0].lower() in _TRACE_ENDPOINTS:
        kind = words.pop(0).lower()
    elif len(words) > 1:
        what = f"found {shown(words[0])}, expected zipkin or datadog{nearest(words[0], _TRACE_ENDPOINTS)}"
        given.reader.problem(given.directive.words[0], what)
    given.values.update(kind=kind, endpoint=words[0] if words else _TRACE_ENDPOINTS[kind])


def trace_line(given: Given, line: Sequence[Token]) -> bool:
    """node-cache ignores options that it doesn't know."""
    what = f"found option {shown(line[0].text)}, which is not known"
    given.reader.warning(line[0], f"{what}; the line is left out, as in node-cache")
    return True
