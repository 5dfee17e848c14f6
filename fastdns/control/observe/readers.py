# SPDX-License-Identifier: Apache-2.0
"""From a moment's figures to the samples of each metric: the functions that the table in ``metrics`` names.

A sample is (label values, number); of a histogram (label values, counts by bucket, sum). Samples with the
same labels are added up by the collector.
"""
# ruff: noqa: D103 - what each is stands in the table

from collections.abc import Callable, Iterator

from fastdns._version import __version__
from fastdns.control.observe.figures import Figures

Labels = tuple[str, ...]
Values = Iterator[tuple[Labels, float]]
Histograms = Iterator[tuple[Labels, list[int], float]]

# By the numbers of _layout.h.
PLUGINS = (
    "", "cache", "loadbalance", "forward", "hosts", "template", "rewrite", "dns64", "loop", "whoami",
)  # fmt: skip
TYPES = (
    "A", "AAAA", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NS", "NSEC", "NSEC3", "PTR", "RRSIG", "SOA", "SRV",
    "TXT", "ANY", "AXFR", "IXFR", "other",
)  # fmt: skip
RCODES = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE", "RCODE11", "RCODE12", "RCODE13", "RCODE14", "RCODE15", "BADVERS", "other",
)  # fmt: skip
UPSTREAM_RCODES = (*RCODES[:6], "BADVERS", "other")
PROTOS = ("udp", "tcp")
TLS_PROTOS = ("udp", "tcp-tls")  #: of an upstream with TLS: the second is all there is
CLASSES = ("success", "denial")  #: of the cache
SETUP_ERRORS = ("iptables", "iptables_lock", "interface_add", "interface_check", "configmap")

_VIEW = ""  #: node-cache has no views; the label is there all the same
_PROXY = "forward"
_US = 1e6


# ---- coredns_dns_* ----


def requests(f: Figures) -> Values:
    for name, series in f.counted():
        for proto, counts in zip(PROTOS, series["requests"], strict=True):
            for qtype, count in zip(TYPES, counts, strict=True):
                yield (name.server, name.zone, _VIEW, proto, name.family, qtype), count


def responses(f: Figures) -> Values:
    for name, series in f.counted():
        for plugin, counts in zip(PLUGINS, series["responses"], strict=True):
            for rcode, count in zip(RCODES, counts, strict=True):
                yield (name.server, name.zone, _VIEW, rcode, plugin), count


def do_requests(f: Figures) -> Values:
    for name, series in f.counted():
        yield (name.server, name.zone, _VIEW), series["do_requests"]


def request_times(f: Figures) -> Histograms:
    for name, series in f.counted():
        yield (name.server, name.zone, _VIEW), series["times"], series["times_us"] / _US


def request_sizes(f: Figures) -> Histograms:
    for name, series in f.counted():
        for i, proto in enumerate(PROTOS):
            labels = (name.server, name.zone, _VIEW, proto)
            yield labels, series["request_sizes"][i], series["request_octets"][i]


def response_sizes(f: Figures) -> Histograms:
    for name, series in f.counted():
        for i, proto in enumerate(PROTOS):
            labels = (name.server, name.zone, _VIEW, proto)
            yield labels, series["response_sizes"][i], series["response_octets"][i]


# ---- coredns_cache_* ----


def cache_requests(f: Figures) -> Values:
    for name, zones, series in f.cached():
        yield (name.server, zones, _VIEW), sum(series["cache_hits"]) + series["cache_misses"]


def cache_hits(f: Figures) -> Values:
    for name, zones, series in f.cached():
        for kind, count in zip(CLASSES, series["cache_hits"], strict=True):
            yield (name.server, kind, zones, _VIEW), count


def cache_misses(f: Figures) -> Values:
    for name, zones, series in f.cached():
        yield (name.server, zones, _VIEW), series["cache_misses"]


def served_stale(f: Figures) -> Values:
    for name, zones, series in f.cached():
        yield (name.server, zones, _VIEW), series["served_stale"]


def cache_entries(f: Figures) -> Values:
    # All servers of a block share its cache: each shows the whole, as in CoreDNS.
    for name, series in f.named_blocks():
        for server in name.servers if name.cached else ():
            for kind, count in zip(CLASSES, series["entries"], strict=True):
                yield (server, kind, name.zones, _VIEW), count


def cache_evictions(f: Figures) -> Values:
    # The coordinator doesn't know whose query it was: they count under the block's first server.
    for name, series in f.named_blocks():
        for kind, count in zip(CLASSES, series["evictions"], strict=True):
            yield (name.servers[0], kind, name.zones, _VIEW), count


def cache_prefetches(f: Figures) -> Values:
    for name, series in f.named_blocks():
        yield (name.servers[0], name.zones, _VIEW), series["prefetches"]


def cache_drops(f: Figures) -> Values:
    for name, series in f.named_blocks():
        yield (name.servers[0], name.zones, _VIEW), series["drops"]


# ---- coredns_proxy_* and other plugins ----


def proxy_times(f: Figures) -> Histograms:
    for to, _, series in f.named_upstreams():
        for i, rcode in enumerate(UPSTREAM_RCODES):
            yield (_PROXY, to, rcode), series["times"][i], series["times_us"][i] / _US


def proxy_health_failures(f: Figures) -> Values:
    for to, _, series in f.named_upstreams():
        yield (_PROXY, to), series["health_failures"]


def proxy_reused(f: Figures) -> Values:
    for to, tls, series in f.named_upstreams():
        for proto, count in zip(TLS_PROTOS if tls else PROTOS, series["reused"], strict=True):
            yield (_PROXY, to, proto), count


def proxy_dialed(f: Figures) -> Values:
    for to, tls, series in f.named_upstreams():
        for proto, count in zip(TLS_PROTOS if tls else PROTOS, series["dialed"], strict=True):
            yield (_PROXY, to, proto), count


def panics(f: Figures) -> Values:
    # CoreDNS goes on after a panic in a query; here a process dies of it, and another goes on.
    dead = sum(one["restarts"] for one in f.board["children"] if one["role"] != "control")
    yield (), dead


def plugins_enabled(f: Figures) -> Values:
    for server, zone, plugin in f.names.plugins:
        yield (server, zone, _VIEW, plugin), 1


def build_info(f: Figures) -> Values:
    if f.facts.counted:
        yield (__version__, "", ""), 1


def reload_version(f: Figures) -> Values:
    if f.ledger["reloads"] and f.facts.digest:
        yield ("sha512", f.facts.digest), 1


def hosts_entries(f: Figures) -> Values:
    for file, (entries, _) in f.facts.hosts.items():
        yield (file,), entries


def hosts_time(f: Figures) -> Values:
    yield (), max((time for _, time in f.facts.hosts.values()), default=0)


def template_matches(f: Figures) -> Values:
    for name, series in f.named_blocks():
        kinds = set(name.templates)
        qclass, qtype = kinds.pop() if len(kinds) == 1 else (_ANY, _ANY)
        labels = (name.servers[0], name.zone, _VIEW, _CLASS_TEXT.get(qclass, "ANY"), type_text(qtype))
        yield labels, series["template_matches"]


_ANY = 255
_CLASS_TEXT = {1: "IN", 3: "CH", 4: "HS"}
_TYPE_TEXT = {1: "A", 28: "AAAA", 12: "PTR", 16: "TXT", 15: "MX", 33: "SRV", 5: "CNAME", 65: "HTTPS"}


def type_text(qtype: int) -> str:
    """A template's type as it stands in the Corefile, of those that one finds there."""
    return _TYPE_TEXT.get(qtype, "ANY" if qtype == _ANY else f"TYPE{qtype}")


def dns64_translated(f: Figures) -> Values:
    for name, series in f.all_series():
        yield (name.server,), series["dns64_translated"]


def health_times(f: Figures) -> Histograms:
    yield (), [f.ledger[f"health_times_{i}"] for i in range(6)], f.ledger["health_us"] / _US


def setup_errors(f: Figures) -> Values:
    for kind in SETUP_ERRORS:
        yield (kind,), f.ledger[f"setup_errors_{kind}"]


def scrapes(f: Figures) -> Values:
    yield ("200",), f.ledger["scrapes"]
    yield ("500",), f.ledger["scrapes_failed"]
    yield ("503",), 0


# ---- fastdns_* ----


def node_fallbacks(f: Figures) -> Values:
    for address, there in f.facts.fallbacks.items():
        yield (address,), there


def joined(f: Figures) -> Values:
    yield (), f.counter("joined") + f.counter("joined_local")


def waits(kind: str) -> Callable[[Figures], Histograms]:
    """Histogram of the waits of all clients, ``hits`` or ``misses``."""

    def read(f: Figures) -> Histograms:
        for one in f.regions:
            counts, total = (
                (one["wait_hits"], one["wait_hits_us"])
                if kind == "hits"
                else (one["wait_misses"], one["wait_misses_us"])
            )
            yield (), counts, total / _US

    return read


def worker_queries(f: Figures) -> Values:
    for one in f.regions:
        for proto in PROTOS:
            yield (str(one["index"]), proto), one["counters"][f"{proto}_queries"]


def ring_octets(f: Figures) -> Values:
    for one in f.regions:
        yield (str(one["index"]), "questions"), one["questions_used"]
        yield (str(one["index"]), "answers"), one["answers_used"]


def ring_size(f: Figures) -> Values:
    for one in f.regions[:1]:
        yield ("questions",), one["questions_max"]
        yield ("answers",), one["answers_max"]


def of_workers(field: str) -> Callable[[Figures], Values]:
    """A number in each worker's region."""

    def read(f: Figures) -> Values:
        for one in f.regions:
            yield (str(one["index"]),), one[field]  # type: ignore[literal-required]

    return read


def restarts(f: Figures) -> Values:
    for one in f.board["children"]:
        yield (one["role"], str(one["index"])), one["restarts"]


def stuck(f: Figures) -> Values:
    for one in f.board["children"]:
        yield (one["role"], str(one["index"])), one["stuck"]


def kernel_drops(f: Figures) -> Values:
    for number, queue in f.queues.items():
        yield (f.names.listeners[number],), queue.drops


def kernel_queue(f: Figures) -> Values:
    for number, queue in f.queues.items():
        yield (f.names.listeners[number],), queue.octets


def upstream_wait(f: Figures) -> Values:
    waits: dict[str, int] = {}
    for number, to in f.names.upstreams.items():
        waits[to] = max(waits.get(to, 0), f.post["upstream_wait_ms"][number])
    for to, wait in waits.items():
        if wait:
            yield (to,), wait / 1000


def log_octets(f: Figures) -> Values:
    yield (), sum(one["used"] for one in f.logs)
