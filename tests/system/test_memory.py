# SPDX-License-Identifier: Apache-2.0
"""What all processes of the server take together: two workers, default budget, 10,000 answers cached."""

import contextlib
import gzip
import urllib.request
from collections.abc import Sequence

from fastdns.loadgen.process import run_process
from fastdns.loadgen.spec import LoadSpec
from tests.memory import distinct_octets
from tests.mock_upstream import Question, Reply, answer, mock_upstream
from tests.peers.run import process_tree
from tests.system.chart import (
    CLUSTER_DNS,
    FORMS,
    OURS,
    RESOLVER,
    UPSTREAM,
    get,
    node_of,
    template_of,
    value_of,
    wait_for_port,
)
from tests.system.netns import network, skip_without_network_namespaces
from tests.system.server import find_keeper, serve

LIMIT_MIB = 40.0
NAMES = 10_000
PROCESSES = 5  # keeper, control, coordinator, two workers


def script(question: Question) -> Sequence[Reply]:
    return [Reply(answer(question, "192.0.2.1"))]


def fill(endpoint: tuple[str, int], zones: Sequence[str]) -> None:
    """Ask for all the names, in equal shares, and once more."""
    names = [(f"host-{number:05d}.{zones[number % len(zones)]}", "A") for number in range(NAMES)]
    for _ in range(2):
        # Not about time: the upstream is Python, and the machine may be busy.
        result = run_process(LoadSpec(endpoint, names=names, count=NAMES, window=64, timeout_s=5.0))
        assert result.answered == NAMES, result


def check(keeper: int) -> None:
    family = process_tree(keeper)
    assert len(family) == PROCESSES, family
    together = distinct_octets(family) / 2**20
    print(f"{together:.2f} MiB")
    assert together <= LIMIT_MIB


def test_in_front_of_one_upstream() -> None:
    """No Corefile: `serve --upstream`."""
    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        fill(server.endpoint, ["svc.example.test"])
        assert server.stats().coordinator["entries"] >= 0.99 * NAMES, "not all of them are in the cache"
        check(server.keeper)


@skip_without_network_namespaces
def test_in_node_caches_place() -> None:
    """`node-cache` with RKE2's Corefile, interface and rules, after a Prometheus has been there."""
    form = FORMS["iptables"]
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(network())
        for address in (UPSTREAM, CLUSTER_DNS, RESOLVER):
            behind.add_address(f"{address}/32")
        node = stack.enter_context(node_of(behind))
        with behind.entered():
            for address in (UPSTREAM, RESOLVER):
                stack.enter_context(mock_upstream(script, address, 53))
        node.write("coredns/Corefile.base", template_of(form))
        with node.start(OURS, *form.arguments, asked=form.asked) as running, node.net.entered():
            fill((form.asked[0], 53), ["svc.cluster.local", "svc.example.test"])
            wait_for_port(form.health, 8080)
            assert get(form.health, 8080, "/health") == (200, "OK")
            entries = value_of(scrape(form.asked[0]), "fastdns_cache_entries", {})
            assert entries >= 0.99 * NAMES, "not all of them are in the cache"
            keeper = find_keeper(running.process.pid)
            running.wait_for(lambda: len(process_tree(keeper)) == PROCESSES, "end of the set-up's processes")
            check(keeper)


def scrape(address: str) -> str:
    """/metrics as Prometheus asks for it."""
    asked = urllib.request.Request(f"http://{address}:9253/metrics", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=5) as response:
        return gzip.decompress(response.read()).decode()
