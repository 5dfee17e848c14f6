# SPDX-License-Identifier: Apache-2.0
"""Every metric, declared once. docs/metrics.md is made from these tables (tools/gen_metrics.py).

Names, labels and buckets of the first table are CoreDNS's and node-cache's, so that what was made for them
goes on to work; the second one is fastdns's own. The totals stand in shared memory and in the keeper's notes:
they go on over deaths of children and over reloads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fastdns._stats import COUNTER_HELP
from fastdns.control.observe import readers as r
from fastdns.control.observe.exposition import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from fastdns.control.observe.figures import Figures

# Upper bounds in the spelling of Go's client; the last bucket, +Inf, goes without saying.
TIME_BOUNDS = tuple(f"{0.00025 * 2**k:g}" for k in range(16))  # s
SIZE_BOUNDS = (
    "0", "100", "200", "300", "400", "511", "1023", "2047", "4095", "8291", "16000", "32000", "48000",
    "64000",
)  # fmt: skip
HEALTH_BOUNDS = ("0.00025", "0.0025", "0.025", "0.25", "2.5")  # s
FINE_BOUNDS = tuple(f"{step * 10.0**exponent:g}" for exponent in range(-5, 1) for step in (1, 2, 5)) + ("10",)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A row. Histograms have bounds; ``read`` gives samples as ``readers`` says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    read: Callable[[Figures], Iterator[Any]]
    bounds: tuple[str, ...] = ()


_SERVER = ("server", "zone", "view")
_CACHE = ("server", "zones", "view")
_CACHE_TYPE = ("server", "type", "zones", "view")
_NONE: tuple[str, ...] = ()


def _one(value: Callable[[Figures], float]) -> Callable[[Figures], r.Values]:
    """A metric without labels."""

    def read(f: Figures) -> r.Values:
        yield (), value(f)

    return read


COREDNS: tuple[Metric, ...] = (
    Metric(
        "coredns_dns_requests_total", "counter", (*_SERVER, "proto", "family", "type"),
        "Counter of DNS requests made per zone, protocol and family.", r.requests,
    ),
    Metric(
        "coredns_dns_responses_total", "counter", (*_SERVER, "rcode", "plugin"),
        "Counter of response status codes.", r.responses,
    ),
    Metric(
        "coredns_dns_request_duration_seconds", "histogram", _SERVER,
        "Histogram of the time (in seconds) each request took per zone.", r.request_times, TIME_BOUNDS,
    ),
    Metric(
        "coredns_dns_request_size_bytes", "histogram", (*_SERVER, "proto"),
        "Size of the DNS request in bytes.", r.request_sizes, SIZE_BOUNDS,
    ),
    Metric(
        "coredns_dns_response_size_bytes", "histogram", (*_SERVER, "proto"),
        "Size of the reply in bytes, before OPT, truncation and compression.", r.response_sizes, SIZE_BOUNDS,
    ),
    Metric(
        "coredns_dns_do_requests_total", "counter", _SERVER,
        "Counter of DNS requests with DO bit set per zone.", r.do_requests,
    ),
    Metric(
        "coredns_panics_total", "counter", _NONE,
        "Workers and coordinators that died and were replaced; CoreDNS counts its panics here.", r.panics,
    ),
    Metric(
        "coredns_plugin_enabled", "gauge", (*_SERVER, "name"),
        "1 for each plugin of a server block that has prometheus.", r.plugins_enabled,
    ),
    Metric(
        "coredns_build_info", "gauge", ("version", "revision", "goversion"),
        "1, with fastdns's version; there is no Go.", r.build_info,
    ),
    Metric(
        "coredns_cache_entries", "gauge", _CACHE_TYPE,
        "The number of elements in the cache.", r.cache_entries,
    ),
    Metric(
        "coredns_cache_requests_total", "counter", _CACHE,
        "The count of cache requests.", r.cache_requests,
    ),
    Metric(
        "coredns_cache_hits_total", "counter", _CACHE_TYPE, "The count of cache hits.", r.cache_hits,
    ),
    Metric(
        "coredns_cache_misses_total", "counter", _CACHE,
        "The count of cache misses. Deprecated, derive misses from cache hits and requests.", r.cache_misses,
    ),
    Metric(
        "coredns_cache_prefetch_total", "counter", _CACHE,
        "The number of times the cache has asked again ahead of time.", r.cache_prefetches,
    ),
    Metric(
        "coredns_cache_drops_total", "counter", _CACHE,
        "The number of responses that are not cached because they don't fit the question.", r.cache_drops,
    ),
    Metric(
        "coredns_cache_served_stale_total", "counter", _CACHE,
        "The number of requests served from stale cache entries.", r.served_stale,
    ),
    Metric(
        "coredns_cache_evictions_total", "counter", _CACHE_TYPE,
        "The count of cache evictions.", r.cache_evictions,
    ),
    Metric(
        "coredns_proxy_request_duration_seconds", "histogram", ("proxy_name", "to", "rcode"),
        "Histogram of the time each request to an upstream took.", r.proxy_times, TIME_BOUNDS,
    ),
    Metric(
        "coredns_proxy_healthcheck_failures_total", "counter", ("proxy_name", "to"),
        "Counter of the number of failed healthchecks.", r.proxy_health_failures,
    ),
    Metric(
        "coredns_proxy_conn_cache_hits_total", "counter", ("proxy_name", "to", "proto"),
        "Exchanges on a socket that was there.", r.proxy_reused,
    ),
    Metric(
        "coredns_proxy_conn_cache_misses_total", "counter", ("proxy_name", "to", "proto"),
        "Exchanges on a new socket.", r.proxy_dialed,
    ),
    Metric(
        "coredns_forward_healthcheck_broken_total", "counter", _NONE,
        "Questions for which no upstream was healthy.", _one(lambda f: f.counter("all_down")),
    ),
    Metric(
        "coredns_forward_max_concurrent_rejects_total", "counter", _NONE,
        "Questions rejected because max_concurrent was reached.",
        _one(lambda f: f.counter("concurrent_full")),
    ),
    Metric(
        "coredns_health_request_duration_seconds", "histogram", _NONE,
        "Time that our own question to /health took, asked once a second.", r.health_times, HEALTH_BOUNDS,
    ),
    Metric(
        "coredns_health_request_failures_total", "counter", _NONE,
        "Our own questions to /health that failed.", _one(lambda f: f.ledger["health_failures"]),
    ),
    Metric(
        "coredns_reload_failed_total", "counter", _NONE,
        "Reloads that the plugin tried and that failed.", _one(lambda f: f.ledger["reload_failures"]),
    ),
    Metric(
        "coredns_reload_version_info", "gauge", ("hash", "value"),
        "1, with the checksum of the Corefile; there since the first reload that was tried.",
        r.reload_version,
    ),
    Metric(
        "coredns_hosts_entries", "gauge", ("hostsfile",),
        "Entries of the hosts file, reverse ones and those in the Corefile included.", r.hosts_entries,
    ),
    Metric(
        "coredns_hosts_reload_timestamp_seconds", "gauge", _NONE,
        "When the hosts file that was read last had been changed.", r.hosts_time,
    ),
    Metric(
        "coredns_template_matches_total", "counter", (*_SERVER, "class", "type"),
        "Questions that a template answered; under the block's first server, with the class and type that its"
        " templates have in common.", r.template_matches,
    ),
    Metric(
        "coredns_dns64_requests_translated_total", "counter", ("server",),
        "Answers made by dns64.", r.dns64_translated,
    ),
    Metric(
        "coredns_nodecache_setup_errors_total", "counter", ("errortype",),
        "Errors met while the node's network was set up.", r.setup_errors,
    ),
    Metric(
        "process_cpu_seconds_total", "counter", _NONE,
        "CPU time of all processes of the server.", _one(lambda f: f.usage.cpu_s),
    ),
    Metric(
        "process_open_fds", "gauge", _NONE,
        "Open file descriptors of all processes whose /proc may be read.", _one(lambda f: f.usage.open_fds),
    ),
    Metric(
        "process_max_fds", "gauge", _NONE,
        "Descriptors that one process may have.", _one(lambda f: f.usage.max_fds),
    ),
    Metric(
        "process_virtual_memory_bytes", "gauge", _NONE,
        "Address space of all processes.", _one(lambda f: f.usage.virtual),
    ),
    Metric(
        "process_virtual_memory_max_bytes", "gauge", _NONE,
        "Address space that one process may have.", _one(lambda f: f.usage.virtual_max),
    ),
    Metric(
        "process_resident_memory_bytes", "gauge", _NONE,
        "Memory of all processes, shared pages once (proportional set size).",
        _one(lambda f: f.usage.resident),
    ),
    Metric(
        "process_start_time_seconds", "gauge", _NONE,
        "When the keeper was started, since the epoch.", _one(lambda f: f.usage.started_s),
    ),
    Metric(
        "process_network_receive_bytes_total", "counter", _NONE,
        "Octets received in this network namespace.", _one(lambda f: f.usage.received),
    ),
    Metric(
        "process_network_transmit_bytes_total", "counter", _NONE,
        "Octets sent in this network namespace.", _one(lambda f: f.usage.sent),
    ),
    Metric(
        "promhttp_metric_handler_requests_total", "counter", ("code",),
        "Scrapes, by the code of the reply.", r.scrapes,
    ),
    Metric(
        "promhttp_metric_handler_requests_in_flight", "gauge", _NONE,
        "Scrapes being served: this one.", _one(lambda _: 1),
    ),
)  # fmt: skip

_WORKER = ("worker",)
_CHILD = ("role", "index")

OWN: tuple[Metric, ...] = (
    Metric(
        "fastdns_joined_total", "counter", _NONE,
        "Clients that were answered by a question that another client had caused.", r.joined,
    ),
    Metric(
        "fastdns_hit_wait_seconds", "histogram", _NONE,
        "Time from a query's receipt to its reply, answered from the cache.", r.waits("hits"), FINE_BOUNDS,
    ),
    Metric(
        "fastdns_miss_wait_seconds", "histogram", _NONE,
        "The same, where upstream had to be asked.", r.waits("misses"), FINE_BOUNDS,
    ),
    Metric(
        "fastdns_worker_queries_total", "counter", ("worker", "proto"),
        "Queries received, by worker: even, unless a foreign socket shares the address.", r.worker_queries,
    ),
    Metric(
        "fastdns_worker_pending", "gauge", _WORKER,
        "Questions that wait for the coordinator.", r.of_workers("pending"),
    ),
    Metric(
        "fastdns_worker_pending_max", "gauge", _WORKER,
        "Places for them.", r.of_workers("pending_max"),
    ),
    Metric(
        "fastdns_worker_clients", "gauge", _WORKER,
        "Clients that wait on those questions.", r.of_workers("clients"),
    ),
    Metric(
        "fastdns_worker_clients_max", "gauge", _WORKER,
        "Places for them.", r.of_workers("clients_max"),
    ),
    Metric(
        "fastdns_worker_tcp_connections", "gauge", _WORKER,
        "Open TCP connections of clients.", r.of_workers("tcp_connections"),
    ),
    Metric(
        "fastdns_ring_bytes", "gauge", ("worker", "ring"),
        "What waits in the rings between a worker and the coordinator.", r.ring_octets,
    ),
    Metric(
        "fastdns_ring_size_bytes", "gauge", ("ring",),
        "Size of each of them.", r.ring_size,
    ),
    Metric(
        "fastdns_inflight", "gauge", _NONE,
        "Questions that upstreams are asked at the moment.", _one(lambda f: f.post["inflight"]),
    ),
    Metric(
        "fastdns_cache_entries", "gauge", _NONE,
        "Entries of all blocks.", _one(lambda f: f.post["entries"]),
    ),
    Metric(
        "fastdns_cache_bytes", "gauge", _NONE,
        "Octets that they take.", _one(lambda f: f.post["entry_octets"]),
    ),
    Metric(
        "fastdns_restarts_total", "counter", _CHILD,
        "Children that died and were replaced.", r.restarts,
    ),
    Metric(
        "fastdns_stuck_total", "counter", _CHILD,
        "Children that were killed because they stood still.", r.stuck,
    ),
    Metric(
        "fastdns_node_addresses", "gauge", _NONE,
        "Addresses of the node that the keeper renews.", _one(lambda f: f.board["addresses"]),
    ),
    Metric(
        "fastdns_node_addresses_away", "gauge", _NONE,
        "1 while the node's addresses are given up, and the cluster's DNS answers in our place.",
        _one(lambda f: f.board["addresses_away"]),
    ),
    Metric(
        "fastdns_node_address_trips_total", "counter", _NONE,
        "Times that the node's addresses ran out, since no worker moved or the keeper was held.",
        _one(lambda f: f.board["address_trips"]),
    ),
    Metric(
        "fastdns_node_address_returns_total", "counter", _NONE,
        "Times that they came back.", _one(lambda f: f.board["address_returns"]),
    ),
    Metric(
        "fastdns_node_fallback", "gauge", ("address",),
        "Of an address that only this node knows: 1 when the cluster's DNS answers on it once we are gone,"
        " 0 where no rule for that can be had; the log says why.", r.node_fallbacks,
    ),
    Metric(
        "fastdns_keeper_late_ticks_total", "counter", _NONE,
        "The keeper's ticks of 100 ms that came late: the machine had no CPU to spare.",
        _one(lambda f: f.board["late_ticks"]),
    ),
    Metric(
        "fastdns_kernel_drops_total", "counter", ("server",),
        "Datagrams that the kernel dropped because a receive queue was full.", r.kernel_drops,
    ),
    Metric(
        "fastdns_kernel_queue_bytes", "gauge", ("server",),
        "What waits in the UDP receive queues.", r.kernel_queue,
    ),
    Metric(
        "fastdns_upstream_wait_seconds", "gauge", ("to",),
        "Silence after which a question is asked again.", r.upstream_wait,
    ),
    Metric(
        "fastdns_log_unread_total", "counter", _NONE,
        "Log lines dropped because nobody read stdout.", _one(lambda f: f.ledger["lines_dropped"]),
    ),
    Metric(
        "fastdns_log_queue_bytes", "gauge", _NONE,
        "Log records that wait for control.", r.log_octets,
    ),
    Metric(
        "fastdns_reloads_total", "counter", _NONE,
        "Reloads that were tried.", _one(lambda f: f.ledger["reloads"]),
    ),
    Metric(
        "fastdns_config_number", "gauge", _NONE,
        "Number of the configuration, growing with each reload.", _one(lambda f: f.facts.number),
    ),
    Metric(
        "fastdns_config_swept", "gauge", _NONE,
        "Number of the configuration that the whole cache agrees with.", _one(lambda f: f.post["swept"]),
    ),
)  # fmt: skip


def _plane_counter(name: str) -> Metric:
    text = COUNTER_HELP[name]
    return Metric(
        f"fastdns_{name}_total",
        "counter",
        (),
        f"{text[0].upper()}{text[1:]}.",
        _one(lambda f: f.counter(name)),
    )


# `joined` is told together with `joined_local`, above: both are clients that cost upstream nothing.
COUNTERS: tuple[Metric, ...] = tuple(
    _plane_counter(name) for name in COUNTER_HELP if name not in ("joined", "joined_local")
)

METRICS: tuple[Metric, ...] = COREDNS + OWN + COUNTERS

_FAMILIES = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class Collector:
    """The metrics of one moment, for prometheus_client."""

    def __init__(self, figures: Figures, metrics: tuple[Metric, ...] = METRICS) -> None:
        self._figures = figures
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        """A family for each metric that has a sample."""
        for metric in self._metrics:
            family = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
            fill = _fill_histogram if metric.kind == "histogram" else _fill_values
            fill(family, metric, metric.read(self._figures))
            if family.samples:
                yield family


def _fill_values(family: Any, metric: Metric, samples: r.Values) -> None:
    # What has labels is there once it was counted, as CoreDNS has it, but for fixed sets of labels.
    total: dict[r.Labels, float] = {}
    for labels, value in samples:
        total[labels] = total.get(labels, 0) + value
    always = not metric.labels or metric.kind == "gauge" or metric.name in _ALWAYS
    for labels, value in total.items():
        if value or always:
            family.add_metric(labels, value)


_ALWAYS = {
    "coredns_nodecache_setup_errors_total", "promhttp_metric_handler_requests_total",
    "fastdns_worker_queries_total", "fastdns_restarts_total", "fastdns_stuck_total",
    "fastdns_kernel_drops_total",
}  # fmt: skip


def _fill_histogram(family: Any, metric: Metric, samples: r.Histograms) -> None:
    total: dict[r.Labels, tuple[list[int], float]] = {}
    for labels, counts, amount in samples:
        known, sum_ = total.get(labels, ([0] * len(counts), 0.0))
        total[labels] = [a + b for a, b in zip(known, counts, strict=True)], sum_ + amount
    for labels, (counts, amount) in total.items():
        if any(counts) or not metric.labels:
            family.add_metric(labels, _cumulated(metric.bounds, counts), amount)


def _cumulated(bounds: tuple[str, ...], counts: list[int]) -> list[tuple[str, float]]:
    seen = 0
    rows = []
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        seen += count
        rows.append((bound, float(seen)))
    return rows
