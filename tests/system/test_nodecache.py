# SPDX-License-Identifier: Apache-2.0
"""`node-cache` with the arguments and the template of RKE2's chart, unedited; edits of its ConfigMaps."""

import re
from collections.abc import Iterator

import dns.rcode
import pytest

from tests.peers import run as peers
from tests.system.chart import (
    COMMON,
    FORMS,
    ONLY_SERVE,
    OURS,
    POD_IP,
    UPSTREAM,
    Node,
    addresses,
    check_answers,
    check_lines,
    cluster,
    get,
    node_of,
    template_of,
    value_of,
)
from tests.system.clients import Client
from tests.system.netns import Network, skip_without_network_namespaces

pytestmark = skip_without_network_namespaces


@pytest.fixture(scope="module")
def behind() -> Iterator[Network]:
    with cluster() as net:
        yield net


@pytest.fixture
def node(behind: Network) -> Iterator[Node]:
    with node_of(behind) as made:
        yield made


@pytest.mark.parametrize("name", FORMS)
def test_the_chart_unedited(node: Node, name: str) -> None:
    form = FORMS[name]
    template = template_of(form)
    node.write("coredns/Corefile.base", template)
    with node.start(OURS, *form.arguments, asked=form.asked) as running:
        check_answers(form)
        assert check_lines(running, template) == (node.etc / "Corefile").read_text()


def test_this_is_what_node_cache_does(node: Node) -> None:
    """The same by node-cache itself, in the form that needs no dummy interface."""
    form = FORMS["cilium"]
    template = template_of(form)
    node.write("coredns/Corefile.base", template)
    with node.start([peers.find_program("node-cache")], *form.arguments, asked=form.asked) as running:
        check_answers(form)
        assert check_lines(running, template) == (node.etc / "Corefile").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["fastdns", "fastdns, by signal", "node-cache"])
def test_configmaps_are_followed(node: Node, who: str) -> None:
    """An edit of the kube-dns ConfigMap reaches the resolver; a wrong one changes nothing and is said."""
    ours, by_signal = who.startswith("fastdns"), who.endswith("signal")
    template = template_of(FORMS["cilium"]).replace("0.0.0.0", "__PILLAR__LOCAL__DNS__")
    # Every 30 s is what the chart has; by signal it is at once.
    node.write("coredns/Corefile.base", template if by_signal else template.replace("reload", "reload 2s 1s"))
    (node.etc / "kube-dns").mkdir()
    program = OURS if ours else [peers.find_program("node-cache")]
    arguments = [
        "-localip",
        POD_IP,
        *COMMON,
        *ONLY_SERVE,
        "-pidfile",
        "/etc/pid",
        *["-reloadwithsignal"] * by_signal,
    ]
    with node.start(program, *arguments, asked=[POD_IP]) as running, Client((POD_IP, 53)) as client:
        running.wait_for((node.etc / "pid").exists, "a pidfile")
        assert (node.etc / "pid").read_text() == f"{running.process.pid}\n"
        node.write("kube-dns/stubDomains", f'{{"test": ["{UPSTREAM}"]}}')
        running.wait_for_line("Updated Corefile with 1 custom stubdomains")
        running.wait_for_line("Reloading complete", timeout_s=10)
        # CoreDNS knows nothing of that name.
        assert client.ask("www.example.test", "A").rcode() == dns.rcode.SERVFAIL
        before = (node.etc / "Corefile").read_text()
        node.write("kube-dns/stubDomains", '{"test": ["nonsense"]}')
        running.wait_for_line("nonsense")
        assert (node.etc / "Corefile").read_text() == before
        (node.etc / "kube-dns" / "stubDomains").unlink()
        running.wait_for(lambda: (node.etc / "Corefile").read_text() != before, "another Corefile")
        running.wait_for(lambda: running.said().count("Reloading complete") == 2, "another reload")
        assert addresses(client, "www.example.test") == ["192.0.2.1"]
        _, text = get(POD_IP, 9353, "/metrics")
        assert value_of(text, "coredns_nodecache_setup_errors_total", {"errortype": "configmap"}) == 1
    assert not (node.etc / "pid").exists()


def test_an_absent_service_is_named(node: Node) -> None:
    """node-cache writes `<nil>`, and fails on that."""
    node.environ.clear()
    node.write("coredns/Corefile.base", template_of(FORMS["cilium"]))
    with pytest.raises(AssertionError, match="left before") as caught:
        with node.start(OURS, *FORMS["cilium"].arguments, asked=[POD_IP]):
            pass
    said = str(caught.value)
    assert "Unable to lookup IP address of Upstream service kube-dns-upstream" in said
    assert re.search(
        "node-cache: the template has .* no KUBE_DNS_UPSTREAM_SERVICE_HOST: expected a service", said
    )
