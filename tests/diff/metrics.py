# SPDX-License-Identifier: Apache-2.0
"""Expositions of both servers as sets of series, and log lines, with what must differ taken out."""

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

#: Beginnings of names that only one of the two has, and the line in docs/differences.md that says so.
OF_METRICS = {"go_": "go-metrics", "promhttp_": "go-metrics", "fastdns_": "own-metrics"}
#: Labels whose values are each program's own.
_OWN_VALUES = {"version", "revision", "goversion", "value"}
#: Counters that are the same for the same queries.
COUNTED = (
    "coredns_dns_requests_total",
    "coredns_dns_responses_total",
    "coredns_dns_do_requests_total",
    "coredns_cache_requests_total",
    "coredns_cache_hits_total",
    "coredns_cache_misses_total",
    "coredns_dns_request_duration_seconds_count",
    "coredns_dns_request_size_bytes_count",
    "coredns_dns_request_size_bytes_sum",
    "coredns_dns_response_size_bytes_count",
    "coredns_template_matches_total",
    "coredns_hosts_entries",
)

Series = tuple[str, frozenset[tuple[str, str]]]


def series(exposition: str, names: Mapping[str, str]) -> dict[Series, float]:
    """Every sample of an exposition; what changes from run to run has the names of run.py's variables."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            labels = {
                key: "*" if key in _OWN_VALUES else _by_name(value, names)
                for key, value in sample.labels.items()
            }
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def types(exposition: str) -> dict[str, str]:
    """The type of each metric that both are to have."""
    return {
        family.name: family.type
        for family in text_string_to_metric_families(exposition)
        if not family.name.startswith(tuple(OF_METRICS))
    }


def common(found: Mapping[Series, float]) -> set[Series]:
    """Without what only one of the two has."""
    return {key for key in found if not key[0].startswith(tuple(OF_METRICS))}


def counts(found: Mapping[Series, float]) -> dict[Series, float]:
    return {key: value for key, value in found.items() if key[0] in COUNTED}


def _by_name(value: str, names: Mapping[str, str]) -> str:
    for name, text in names.items():
        if name not in ("LISTEN", "LISTEN6"):
            value = value.replace(f":{text}" if name == "PORT" else text, f"${name}")
    return value


_QUERY_LINE = re.compile(r"^\[INFO\] (127\.0\.0\.1|\[::1\]):\d+ - \d+ ")
_OTHER_FORMAT = re.compile(r"^\[INFO\] [A-Z]+ IN \S+\.test\. ")  # what LOG in cases/whole.py has
_DURATION = re.compile(r" \d+(\.\d+)?(e-\d+)?s(?= |$)")


def log_lines(log: str) -> list[str]:
    """What the log and errors plugins wrote, sorted: several workers write it.

    Without ports, IDs and durations; and without AA and RA, in which they differ.
    """
    lines = []
    for line in log.splitlines():
        if _QUERY_LINE.match(line):
            lines.append(_QUERY_LINE.sub(r"[INFO] \1:PORT - ID ", line))
        elif line.startswith("[ERROR] plugin/errors: ") or _OTHER_FORMAT.match(line):
            lines.append(line)
    return sorted(
        _DURATION.sub(" DURATION", line).replace("qr,aa,", "qr,").replace("rd,ra", "rd") for line in lines
    )
