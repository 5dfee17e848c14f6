# SPDX-License-Identifier: Apache-2.0
"""/metrics of node-cache: what a dashboard made for it asks for is there (corefile.md 3)."""

import pytest

from tests.diff.cases import CASES
from tests.diff.conftest import Results
from tests.diff.metrics import common, counts, log_lines, series, types
from tests.diff.pairs import Case
from tests.diff.run import FASTDNS, NODE_CACHE


def cases_with(what: str) -> list[object]:
    return [
        pytest.param(case, id=case.name, marks=[] if case.default else [pytest.mark.diff])
        for case in CASES
        if getattr(case, what)
    ]


@pytest.mark.parametrize("case", cases_with("metrics"))
def test_node_cache_has_metrics(case: Case, results: Results) -> None:
    """The names that are the same in every Corefile."""
    outcome = results(case, NODE_CACHE)
    found = {name for name, _ in series(outcome.metrics, outcome.names)}
    assert {
        "coredns_build_info",
        "coredns_panics_total",
        "coredns_plugin_enabled",
        "coredns_dns_requests_total",
        "coredns_dns_responses_total",
        "coredns_nodecache_setup_errors_total",
        "process_resident_memory_bytes",
    } <= found


@pytest.mark.parametrize("case", cases_with("http"))
def test_node_cache_answers_by_http(case: Case, results: Results) -> None:
    """The probes' replies (corefile.md 4)."""
    found = results(case, NODE_CACHE).http
    assert found["HEALTH GET /health"] == (200, "text/plain", "OK")
    assert found["HEALTH GET /"][0] == 404
    assert found["METRICS GET /metrics"][:2] == (200, "text/plain")


@pytest.mark.parametrize("case", cases_with("log"))
def test_node_cache_logs(case: Case, results: Results) -> None:
    """Lines in the form that people grep for."""
    lines = log_lines(results(case, NODE_CACHE).log)
    assert (
        '[INFO] 127.0.0.1:PORT - ID "A IN www.example.test. udp 34 false 512" NOERROR qr,rd 66 DURATION'
        in lines
    )


#: Whether a question meets a socket that was used before: among 32 of them that is chance.
CHANCE = {"coredns_proxy_conn_cache_hits": "counter"}


@pytest.mark.parametrize("case", cases_with("metrics"))
def test_fastdns_has_the_same_series(case: Case, results: Results) -> None:
    """The same names with the same labels and types; with the same values where they count queries."""
    theirs, ours = results(case, NODE_CACHE), results(case, FASTDNS)
    reference, found = series(theirs.metrics, theirs.names), series(ours.metrics, ours.names)
    missing, added = (
        {one for one in only if one[0].removesuffix("_total") not in CHANCE}
        for only in (common(reference) - common(found), common(found) - common(reference))
    )
    assert not missing, f"missing: {sorted(map(str, missing))}\nadded: {sorted(map(str, added))}"
    assert not added, f"added: {sorted(map(str, added))}"
    assert {**types(theirs.metrics), **CHANCE} == {**types(ours.metrics), **CHANCE}
    if case.same_counts:
        assert counts(reference) == counts(found)


@pytest.mark.parametrize("case", cases_with("log"))
def test_fastdns_logs_the_same(case: Case, results: Results) -> None:
    assert log_lines(results(case, FASTDNS).log) == log_lines(results(case, NODE_CACHE).log)


@pytest.mark.parametrize("case", cases_with("http"))
def test_fastdns_answers_the_same_by_http(case: Case, results: Results) -> None:
    assert results(case, FASTDNS).http == results(case, NODE_CACHE).http
