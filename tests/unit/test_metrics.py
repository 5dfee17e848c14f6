# SPDX-License-Identifier: Apache-2.0
"""/metrics: CoreDNS's names, labels and buckets, and totals that add up over processes."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastdns import _stats
from fastdns._stats import COUNTERS
from fastdns._testing.observe import Log, Post, Region
from fastdns.control.addresses import Endpoint
from fastdns.control.config.model import Hosts
from fastdns.control.model import HostRecord, HostsStep, Tls
from fastdns.control.observe import metrics
from fastdns.control.observe.exposition import render
from fastdns.control.observe.metrics import COREDNS, METRICS, Collector
from fastdns.control.observe.names import Facts, Names, hosts_facts, name_all, server_label
from fastdns.control.observe.processes import receive_queues, usage
from fastdns.control.process import ErrorCount
from fastdns.control.segments import Segments
from fastdns.errors import SegmentError
from tests import dashboards
from tests.observetools import LOCAL, WHERE, make_segments, rke2, rke2_config, take

SERVER = f"dns://{LOCAL}:53"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def segments() -> Iterator[Segments]:
    with make_segments() as made:
        yield made


@pytest.fixture
def names() -> Names:
    return name_all(rke2_config(), rke2())


def scrape(segments: Segments, names: Names | None = None, facts: Facts | None = None) -> Samples:
    """All samples, by name and labels, read by prometheus_client's own parser."""
    text = render(Collector(take(segments, names, facts))).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_bounds_are_corefile_mds() -> None:
    """corefile.md section 3, "Buckets"."""
    assert metrics.TIME_BOUNDS == (
        "0.00025", "0.0005", "0.001", "0.002", "0.004", "0.008", "0.016", "0.032", "0.064", "0.128", "0.256",
        "0.512", "1.024", "2.048", "4.096", "8.192",
    )  # fmt: skip
    assert metrics.FINE_BOUNDS[:3] == ("1e-05", "2e-05", "5e-05")
    assert metrics.FINE_BOUNDS[-2:] == ("5", "10")
    assert len(metrics.FINE_BOUNDS) == 19


def test_names_keep_prometheus_rules() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"(coredns|fastdns|process|promhttp)_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.bounds) == (metric.kind == "histogram"), metric.name
        assert metric.help.endswith("."), metric.name


def test_every_counter_of_the_planes_is_shown() -> None:
    shown = {metric.name for metric in METRICS}
    assert {f"fastdns_{name}_total" for name in COUNTERS} - shown == {"fastdns_joined_local_total"}


def test_without_labels_there_from_the_start(segments: Segments) -> None:
    samples = scrape(segments)
    for metric in COREDNS:
        if not metric.labels and metric.kind == "counter":
            assert value(samples, metric.name) is not None, metric.name
    for kind in ("iptables", "iptables_lock", "interface_add", "interface_check", "configmap"):
        assert value(samples, "coredns_nodecache_setup_errors_total", errortype=kind) == 0
    assert not [name for name, labels in samples if name.startswith("coredns_dns_")]


def test_labels_of_a_query(segments: Segments, names: Names) -> None:
    """Both workers' figures under one set of labels; the family is the listener's."""
    for worker, descriptor in enumerate(segments.regions):
        region = Region(descriptor)
        region.series(0, "requests", row=0, column=0, n=3)  # UDP A on IPv4
        region.series(3, "requests", row=1, column=1, n=1)  # TCP AAAA on IPv6
        region.series(0, "responses", row=1, column=0, n=2 + worker)
        region.series(2, "requests", row=0, column=18)  # no zone took it
    samples = scrape(segments, names)
    query = {"server": SERVER, "zone": "cluster.local.", "view": "", "family": "1", "proto": "udp"}
    assert value(samples, "coredns_dns_requests_total", **query, type="A") == 6
    assert value(samples, "coredns_dns_requests_total", **query, type="AAAA") is None
    sixth = {**query, "server": "dns://[fd00::1]:53", "family": "2", "proto": "tcp"}
    assert value(samples, "coredns_dns_requests_total", **sixth, type="AAAA") == 2
    assert value(samples, "coredns_dns_requests_total", **{**query, "zone": "dropped"}, type="other") == 2
    reply = {"server": SERVER, "zone": "cluster.local.", "view": "", "rcode": "NOERROR", "plugin": "cache"}
    assert value(samples, "coredns_dns_responses_total", **reply) == 5


def test_a_block_without_prometheus_counts_for_its_cache_only(segments: Segments, names: Names) -> None:
    """Unbound: both wildcard listeners are one server, `dns://:53`."""
    region = Region(segments.regions[0])
    for series in (6, 8):
        region.series(series, "requests")
        region.series(series, "cache_hits", column=1, n=4)
        region.series(series, "cache_misses", n=2)
    samples = scrape(segments, names)
    assert not [name for name, _ in samples if name.startswith("coredns_dns_")]
    cache = {"server": "dns://:53", "zones": ".", "view": ""}
    assert value(samples, "coredns_cache_hits_total", type="denial", **cache) == 8
    assert value(samples, "coredns_cache_misses_total", **cache) == 4
    assert value(samples, "coredns_cache_requests_total", **cache) == 12


def test_zones_of_a_cache_are_the_blocks(segments: Segments, names: Names) -> None:
    region, post = Region(segments.regions[0]), Post(segments.post)
    region.series(0, "cache_hits", column=0)
    region.series(1, "cache_hits", column=0, n=2)
    post.block(0, "entries", column=0, n=7)
    post.block(0, "evictions", column=1, n=3)
    samples = scrape(segments, names)
    cache = {"server": SERVER, "zones": "cluster.local.,corp.", "view": ""}
    assert value(samples, "coredns_cache_hits_total", type="success", **cache) == 3
    for server in (SERVER, "dns://[fd00::1]:53"):
        shared = {**cache, "server": server}
        assert value(samples, "coredns_cache_entries", type="success", **shared) == 7
    assert (
        value(samples, "coredns_cache_entries", type="success", **{**cache, "server": "dns://[fd00::1]:53"})
        == 7
    )
    assert value(samples, "coredns_cache_evictions_total", type="denial", **cache) == 3


def test_histograms_are_cumulated(segments: Segments, names: Names) -> None:
    for descriptor in segments.regions:
        region = Region(descriptor)
        region.series(0, "times", column=0, n=5)
        region.series(0, "times", column=2, n=1)
        region.series(0, "times", column=16, n=1)
        region.series(0, "times_us", n=9_000_000)
    samples = scrape(segments, names)
    labels = {"server": SERVER, "zone": "cluster.local.", "view": ""}
    name = "coredns_dns_request_duration_seconds"
    assert value(samples, f"{name}_bucket", le="0.00025", **labels) == 10
    assert value(samples, f"{name}_bucket", le="0.001", **labels) == 12
    assert value(samples, f"{name}_bucket", le="8.192", **labels) == 12
    assert value(samples, f"{name}_bucket", le="+Inf", **labels) == 14
    assert value(samples, f"{name}_count", **labels) == 14
    assert value(samples, f"{name}_sum", **labels) == 18


def test_upstreams(segments: Segments, names: Names) -> None:
    post = Post(segments.post)
    post.upstream(0, rcode=3, bucket=1, us=400, reused=1)
    post.upstream(0, rcode=3, bucket=1, us=400, dialed=1, health_failures=2)
    samples = scrape(segments, names)
    to = {"proxy_name": "forward", "to": "10.43.0.10:53"}
    assert value(samples, "coredns_proxy_request_duration_seconds_count", rcode="NXDOMAIN", **to) == 2
    assert value(samples, "coredns_proxy_request_duration_seconds_sum", rcode="NXDOMAIN", **to) == 0.0008
    assert value(samples, "coredns_proxy_conn_cache_hits_total", proto="tcp", **to) == 1
    assert value(samples, "coredns_proxy_conn_cache_misses_total", proto="tcp", **to) == 1
    assert value(samples, "coredns_proxy_healthcheck_failures_total", **to) == 2


def test_an_upstream_with_tls(segments: Segments) -> None:
    config = rke2_config()
    encrypted = [one and replace(one, force_tcp=True, tls=Tls()) for one in config.upstreams]
    Post(segments.post).upstream(0, reused=1)
    Post(segments.post).upstream(0, dialed=1)
    samples = scrape(segments, name_all(replace(config, upstreams=tuple(encrypted)), rke2()))
    for what in ("hits", "misses"):
        name = f"coredns_proxy_conn_cache_{what}_total"
        labels = {"proxy_name": "forward", "to": "10.43.0.10:53"}
        assert value(samples, name, proto="tcp-tls", **labels) == 1
        assert value(samples, name, proto="tcp", **labels) is None


def test_plugins_that_handle_queries(segments: Segments, names: Names) -> None:
    """Not for bind and health; only of blocks with prometheus, for their first zone."""
    found = {
        (labels["server"], labels["zone"], labels["name"])
        for name, pairs in scrape(segments, names)
        if name == "coredns_plugin_enabled"
        for labels in [dict(pairs)]
    }
    assert found == {
        (server, "cluster.local.", plugin)
        for server in (SERVER, "dns://[fd00::1]:53")
        for plugin in ("cache", "errors", "forward", "prometheus")
    }


def test_the_version_is_told_after_the_first_reload(segments: Segments) -> None:
    facts = Facts(digest="ab" * 64, counted=True)
    labels = {"hash": "sha512", "value": "ab" * 64}
    assert value(scrape(segments, facts=facts), "coredns_reload_version_info", **labels) is None
    _stats.Ledger(segments.ledger).add("reloads")
    samples = scrape(segments, facts=facts)
    assert value(samples, "coredns_reload_version_info", **labels) == 1
    assert [name for name, _ in samples if name == "coredns_build_info"]


def test_an_address_without_a_fallback_shows(segments: Segments) -> None:
    samples = scrape(segments, facts=Facts(fallbacks={LOCAL: True, "fe80::1": False}))
    assert value(samples, "fastdns_node_fallback", address=LOCAL) == 1
    assert value(samples, "fastdns_node_fallback", address="fe80::1") == 0


def test_hosts_files(segments: Segments, tmp_path: Path) -> None:
    """Entries in both directions, as CoreDNS counts them; the file's own time."""
    file = tmp_path / "hosts"
    file.write_text("")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    whole, config = rke2(), rke2_config()
    first, second = whole.blocks
    corefile = replace(whole, blocks=(replace(first, hosts=Hosts(where=WHERE, file=file)), second))
    records = {
        "a.corp.": HostRecord(inet4=(b"\x0a\0\0\1", b"\x0a\0\0\2"), inet6=(bytes(16),)),
        "1.0.0.10.in-addr.arpa.": HostRecord(pointers=("a.corp.",)),
    }
    block = config.blocks[0]
    assert block is not None
    config = replace(config, blocks=(replace(block, steps=(HostsStep(records),)), config.blocks[1]))
    samples = scrape(segments, facts=Facts(hosts=hosts_facts(config, corefile)))
    assert value(samples, "coredns_hosts_entries", hostsfile=str(file)) == 4
    assert value(samples, "coredns_hosts_reload_timestamp_seconds") == 1_700_000_000
    file.unlink()
    assert hosts_facts(config, corefile) == {}, "CoreDNS counts what it has read"
    assert hosts_facts(config, whole) == {}


def test_the_ledger_outlives_its_writer(segments: Segments) -> None:
    for _ in range(2):
        ledger = _stats.Ledger(segments.ledger)
        ledger.add("setup_errors_iptables", 3)
        ledger.add("health_times_1")
        ledger.add("health_us", 1000)
    samples = scrape(segments)
    assert value(samples, "coredns_nodecache_setup_errors_total", errortype="iptables") == 6
    assert value(samples, "coredns_health_request_duration_seconds_bucket", le="0.0025") == 2
    assert value(samples, "coredns_health_request_duration_seconds_sum") == 0.002


def test_errors_of_a_configmap_count_from_the_first(segments: Segments) -> None:
    """The first load is done before there is a ledger."""
    errors = ErrorCount("setup_errors_configmap")
    errors()
    errors()
    errors.attach(_stats.Ledger(segments.ledger))
    errors()
    found = scrape(segments)
    assert value(found, "coredns_nodecache_setup_errors_total", errortype="configmap") == 3


def test_a_ledger_is_checked(segments: Segments) -> None:
    with pytest.raises(SegmentError):
        _stats.Ledger(segments.post)
    with pytest.raises(ValueError):
        _stats.Ledger(segments.ledger).add("nothing")


def test_names_of_earlier_configurations_stay(segments: Segments, names: Names) -> None:
    """A reload took the zone away: what it counted is still shown."""
    Region(segments.regions[0]).series(1, "requests", n=9)
    Region(segments.regions[0]).series(40 % 16, "requests", n=1)  # a number that nobody knows: left out
    later = Names(endpoints={}).after(names)
    samples = scrape(segments, later)
    requests = [count for (name, _), count in samples.items() if name == "coredns_dns_requests_total"]
    assert requests == [9]


def test_own_metrics(segments: Segments) -> None:
    region = Region(segments.regions[1])
    region.wait(True, 0, 9)
    region.wait(False, 3, 90)
    region.count(COUNTERS.index("udp_queries"), 5)
    region.count(COUNTERS.index("joined_local"), 2)
    assert Log(segments.logs[0]).query(b"\x01a\0")
    _stats.Ledger(segments.ledger).add("lines_dropped", 4)
    samples = scrape(segments)
    assert value(samples, "fastdns_hit_wait_seconds_bucket", le="1e-05") == 1
    assert value(samples, "fastdns_miss_wait_seconds_bucket", le="5e-05") == 0
    assert value(samples, "fastdns_miss_wait_seconds_bucket", le="0.0001") == 1
    assert value(samples, "fastdns_worker_queries_total", worker="0", proto="udp") == 0
    assert value(samples, "fastdns_worker_queries_total", worker="1", proto="udp") == 5
    assert value(samples, "fastdns_udp_queries_total") == 5
    assert value(samples, "fastdns_joined_total") == 2
    assert value(samples, "fastdns_log_unread_total") == 4
    assert value(samples, "fastdns_log_queue_bytes") == 104


def test_the_number_of_own_series(segments: Segments, names: Names) -> None:
    """At most 250 beside CoreDNS's own on a stock node."""
    own = [name for name, _ in scrape(segments, names) if name.startswith("fastdns_")]
    assert 150 < len(own) <= 250


def test_the_library_is_loaded_lean() -> None:
    """Its servers' modules are 3 MiB of memory; they are absent, not broken, for whoever wants them later."""
    script = (
        "import sys, fastdns.control.observe.exposition\n"
        "print([name for name in ('http.server', 'urllib.request') if name in sys.modules])\n"
        "import http.server, urllib.request; print(http.server.HTTPServer.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "HTTPServer"]


def test_server_labels() -> None:
    assert server_label(Endpoint("10.0.0.1", 5353)) == "dns://10.0.0.1:5353"
    assert server_label(Endpoint("::", 53), bound=False) == "dns://:53"
    assert server_label(Endpoint("fe80::1", 53, 1)) == "dns://[fe80::1%lo]:53"
    assert server_label(Endpoint("fe80::1", 53, 99999)) == "dns://[fe80::1%99999]:53"


def test_usage_is_the_familys() -> None:
    """CPU time of reaped children goes on to count."""
    before = usage([os.getpid()])
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    after = usage([os.getpid()])
    assert after.cpu_s >= before.cpu_s + 0.02
    assert after.resident > 1 << 20
    assert after.open_fds >= 3
    assert after.started_s == before.started_s > 1_000_000_000
    assert usage([os.getpid(), 2**22 - 1]).cpu_s >= before.cpu_s  # one that has gone


def test_receive_queues_are_found() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        other.bind(("::1", 0))
        ports = {0: one.getsockname()[1], 1: other.getsockname()[1]}
        endpoints = {0: Endpoint("127.0.0.1", ports[0]), 1: Endpoint("::1", ports[1])}
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(bytes(512), one.getsockname())
        found = receive_queues(endpoints, os.getpid())
        assert found[0].drops > 0
        assert found[0].octets > 0
        assert (found[1].drops, found[1].octets) == (0, 0)
        assert receive_queues(endpoints, 2**22 - 1)[0].drops > 0  # the keeper's can't be read: by address
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as foreign:
            try:
                assert receive_queues(endpoints, foreign.pid)[0].drops == 0  # a keeper that doesn't hold them
            finally:
                foreign.kill()


@pytest.mark.parametrize("query", dashboards.queries())
def test_dashboards_find_their_metrics(query: str) -> None:
    """Names and labels; tests/system asks a running server for the series."""
    known = {
        f"{metric.name}{suffix}": {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
        for metric in METRICS
        for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
    }
    found = list(dashboards.needs(query))
    assert found, "no metric was found in it"
    for one in found:
        assert one.metric in known
        assert one.labels <= known[one.metric]
