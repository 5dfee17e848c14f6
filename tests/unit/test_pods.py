# SPDX-License-Identifier: Apache-2.0
"""The pods of bench.replay: what they look up, in which order, and what they understand of replies."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence

import dns.message
import dns.rrset

from bench import pods
from tests.mock_upstream import Question, Reply, answer, failure, mock_upstream, nxdomain


def test_the_same_seed_makes_the_same_lookups() -> None:
    inside, outside = pods.services(3), pods.hosts_outside(3)
    one, other = (list(pods.sequence(inside, outside, 200, 20, seed=3)) for _ in range(2))
    assert one == other
    assert all(a.at_s < b.at_s for a, b in itertools.pairwise(one))
    assert 3600 < len(one) < 4400
    asked = Counter(lookup.host.name for lookup in one)
    services = sum(asked[host.name] for host in inside)
    assert 0.45 < services / len(one) < 0.55
    assert asked[inside[0].name] > 3 * asked[inside[9].name] > 0, "Zipf's law"


def test_names_with_few_dots_go_through_the_search_list_first() -> None:
    below = ["team.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    assert pods.candidates("web") == [f"web.{domain}" for domain in below] + ["web"]
    assert pods.candidates("a.b.c.d.e.f")[0] == "a.b.c.d.e.f"


def test_a_lookup_ends_at_the_first_name_with_an_address() -> None:
    def play(question: Question) -> Sequence[Reply]:
        if question.name == "web.shop.svc.cluster.local":
            return [Reply(answer(question, "10.43.0.1"))]
        return [Reply(nxdomain(question))]

    with mock_upstream(play) as upstream:
        found = asyncio.run(pods.look_up(upstream.server, "web.shop"))
    assert (found.addresses, found.failures) == (frozenset({"10.43.0.1"}), 0)
    assert Counter((one.name, one.rdtype.name) for one in upstream.questions) == Counter(
        itertools.product(("web.shop.team.svc.cluster.local", "web.shop.svc.cluster.local"), ("A", "AAAA"))
    )


def test_failures_are_counted() -> None:
    with mock_upstream(lambda question: [Reply(failure(question))]) as upstream:
        found = asyncio.run(pods.look_up(upstream.server, "web"))
    assert (found.addresses, found.failures) == (frozenset(), 8)


def test_addresses_behind_an_alias() -> None:
    response = dns.message.make_response(dns.message.make_query("www.example.test", "AAAA"))
    response.answer = [
        dns.rrset.from_text("www.example.test.", 60, "IN", "CNAME", "edge.example.net."),
        dns.rrset.from_text("edge.example.net.", 60, "IN", "AAAA", "2001:db8::1", "2001:db8::2"),
    ]
    assert pods.read_reply(response.to_wire()) == (0, {"2001:db8::1", "2001:db8::2"})
