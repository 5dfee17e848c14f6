# SPDX-License-Identifier: Apache-2.0
"""Nothing exists below a name that does not exist (RFC 8020): what that answers, and what it asks."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import dns.name
import dns.rcode
import dns.rdatatype
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns.control.model import Block, Forward, Limits, NameStep
from tests.coordtools import NXDOMAIN, SOON, Asked, Reply, Upstream, World, records, world
from tests.counts import count
from tests.unit.test_chain import block, chain

CLUSTER = "cluster.local."
SERVICE = "web.team.svc.cluster.local."
CUT: Final[dict[str, Any]] = {"uniform_ttl": True, "negative_max_s": 300, "cut": True, "cut_learn": True}


def cluster(*names: str, ttl: int = 300) -> Callable[[Asked], Reply]:
    """A server of cluster.local that has these names, an address each."""
    have = {dns.name.from_text(name) for name in names}
    above = {dns.name.Name(name[i:]) for name in have for i in range(1, len(name) - 1)}
    soa = f"ns.dns.{CLUSTER} hostmaster.{CLUSTER} 7 7200 1800 86400 {ttl}"

    def play(asked: Asked) -> Reply:
        message = dns.message.make_response(asked.query, recursion_available=True)
        name = message.question[0].name
        if name in have and message.question[0].rdtype == dns.rdatatype.A:
            message.answer.append(records(name.to_text(), ttl, "A", "10.1.2.3"))
            return message.to_wire()
        if name not in have and name not in above:
            message.set_rcode(dns.rcode.NXDOMAIN)
        message.authority.append(records(CLUSTER, ttl, "SOA", soa))
        return message.to_wire()

    return play


def served(up: Upstream, of: Block | None = None) -> AbstractContextManager[World]:
    """What is asked is counted: nothing is asked again because the machine is slow."""
    zones = {CLUSTER: of or block(Forward((0,)), **CUT)}
    return world(up, make=chain(zones, limits=Limits(retry_floor_ms=5000)))


def asked_for(up: Upstream) -> list[str]:
    return [one.qname.removesuffix(f".{CLUSTER}") for one in up.asked]


def learned(w: World, up: Upstream, count: int) -> None:
    """Wait until upstream was asked so many questions, and has answered them."""
    w.wait(lambda: w.count("upstream_answers") >= count, f"{count} answers")
    assert len(up.asked) == count, asked_for(up)


def test_what_lies_below_a_name_that_does_not_exist_is_not_asked() -> None:
    with Upstream(cluster(SERVICE)) as up, served(up) as w:
        first = w.ask("api.vendor.com.team.svc.cluster.local.").message()
        assert first.rcode() == dns.rcode.NXDOMAIN
        learned(w, up, 4)
        assert asked_for(up) == ["api.vendor.com.team.svc", "svc", "team.svc", "com.team.svc"]
        for name in ("www.other.com.team.svc.cluster.local.", "api.vendor.com.team.svc.cluster.local."):
            answer = w.ask(name, "AAAA")
            assert (answer.kind, answer.rcode, answer.counts) == (NXDOMAIN, 3, (0, 1, 0))
            message = answer.message()
            assert message.authority[0].name.to_text() == CLUSTER
            assert message.authority[0][0].mname.to_text() == f"ns.dns.{CLUSTER}"
            assert message.authority[0][0].serial == 7
        assert len(up.asked) == 4
        assert (w.count("cut_answers"), w.count("cut_questions")) == (2, 3)


def test_an_underscored_ancestor_says_nothing() -> None:
    """CoreDNS answers _http._tcp.web and denies _tcp.web, which it takes for an endpoint's name."""
    name = f"web.{CLUSTER}"  # near enough to the zone for its ancestors to count
    port = f"_http._tcp.{name}"
    says = cluster(name, port)

    def play(asked: Asked) -> Reply:
        if asked.qname == f"_tcp.{name}":
            return cluster(name)(asked)
        return says(asked)

    with Upstream(play) as up, served(up) as w:
        assert w.ask(f"_tcp.{name}").message().rcode() == dns.rcode.NXDOMAIN
        assert w.ask(f"_nothing._tcp.{name}", "SRV").message().rcode() == dns.rcode.NXDOMAIN
        assert w.ask(port).message().answer
        assert w.count("cut_answers") == 0


def test_what_exists_is_asked_without_more() -> None:
    with Upstream(cluster(SERVICE)) as up, served(up) as w:
        assert w.ask(SERVICE).message().answer
        assert w.ask(SERVICE, "AAAA").message().rcode() == dns.rcode.NOERROR
        learned(w, up, 2)
        assert w.count("cut_questions") == 0


def test_an_answer_made_so_is_as_old_as_its_ancestors() -> None:
    with Upstream(cluster(SERVICE)) as up, served(up) as w:
        w.ask("a.b.com.team.svc.cluster.local.")
        learned(w, up, 4)
        ancestor = w.ask("com.team.svc.cluster.local.")
        time.sleep(0.3)
        made = w.ask("other.com.team.svc.cluster.local.")
        assert (made.stored_ms, made.ttl_s) == (ancestor.stored_ms, ancestor.ttl_s)


def test_a_service_that_appears_is_seen_when_its_denial_is_over() -> None:
    play = [cluster(SERVICE, ttl=2)]
    brief = block(Forward((0,)), **CUT | {"negative_max_s": 2})
    with Upstream(lambda asked: play[0](asked)) as up, served(up, brief) as w:
        began = time.monotonic()
        w.ask("a.b.new.team.svc.cluster.local.")
        learned(w, up, 4)
        assert w.ask("pod.new.team.svc.cluster.local.").rcode == 3
        play[0] = cluster(SERVICE, "pod.new.team.svc.cluster.local.")
        while w.ask("pod.new.team.svc.cluster.local.").rcode:
            assert time.monotonic() < began + 2 + SOON
            time.sleep(0.05)


def test_an_ancestor_that_answers_is_asked_for_ahead_of_its_end() -> None:
    with Upstream(cluster(SERVICE, ttl=2)) as up, served(up) as w:
        w.ask("a.com.cluster.local.")
        learned(w, up, 2)
        assert w.ask("b.com.cluster.local.").rcode == 3
        w.wait(lambda: len(up.asked) == 3, "the ancestor's refresh")
        assert asked_for(up) == ["a.com", "com", "com"]
        time.sleep(2.2)  # nothing was answered by it since: it ends, and nobody asks for it
        assert len(up.asked) == 3
        assert w.count("cut_questions") == 1


def test_an_alias_that_leads_nowhere_exists() -> None:
    def play(asked: Asked) -> Reply:
        message = dns.message.from_wire(cluster(SERVICE)(asked) or b"")  # type: ignore[arg-type]
        if message.question[0].name.to_text().startswith("alias."):
            message.answer.append(records(asked.qname, 5, "CNAME", f"gone.{CLUSTER}"))
        return message.to_wire()

    with Upstream(play) as up, served(up) as w:
        w.ask("a.alias.cluster.local.")
        learned(w, up, 2)
        w.ask("b.alias.cluster.local.")
        learned(w, up, 3)
        assert w.count("cut_answers") == 0


def test_an_alias_that_leads_nowhere_is_not_asked_ahead() -> None:
    def play(asked: Asked) -> Reply:
        message = dns.message.from_wire(cluster(SERVICE, ttl=2)(asked) or b"")  # type: ignore[arg-type]
        if message.question[0].name.to_text().startswith("alias."):
            message.answer.append(records(asked.qname, 2, "CNAME", f"gone.{CLUSTER}"))
        return message.to_wire()

    with Upstream(play) as up, served(up) as w:
        w.ask("a.alias.cluster.local.")
        learned(w, up, 2)
        w.ask("b.alias.cluster.local.")
        time.sleep(2.2)
        assert asked_for(up) == ["a.alias", "alias", "b.alias"]


def test_a_preferred_answer_is_not_hidden() -> None:
    """serve_stale_policy prefer_positive: a denial does not take its place, whatever it was made of."""
    play = [cluster("a.com.cluster.local.", ttl=1)]
    kept = block(Forward((0,)), **CUT | {"prefer_positive": True, "stale_s": 60, "recheck_ms": 30_000})
    with Upstream(lambda asked: play[0](asked)) as up, served(up, kept) as w:
        assert w.ask("a.com.cluster.local.").message().answer
        play[0] = cluster(SERVICE)
        time.sleep(1.1)
        w.ask("com.cluster.local.")
        assert w.ask("a.com.cluster.local.").message().answer
        assert w.count("cut_answers") == 1


def test_a_client_that_wants_proofs_is_not_cut_off() -> None:
    with Upstream(cluster(SERVICE)) as up, served(up) as w:
        w.ask("a.com.cluster.local.")
        learned(w, up, 2)
        assert asked_for(up) == ["a.com", "com"]
        w.ask("b.com.cluster.local.", key_flags=1)
        w.ask("b.com.cluster.local.", key_flags=2)
        w.ask("b.com.cluster.local.", "DS")
        learned(w, up, 5)
        assert w.ask("b.com.cluster.local.").rcode == 3
        assert len(up.asked) == 5


def test_what_stands_above_the_zone_s_own_server_says_nothing() -> None:
    """CoreDNS answers ns.dns, which its SOA names, and denies dns."""
    server = f"ns.dns.{CLUSTER}"

    def play(asked: Asked) -> Reply:
        return cluster(SERVICE)(asked) if asked.qname == f"dns.{CLUSTER}" else cluster(server)(asked)

    with Upstream(play) as up, served(up) as w:
        assert w.ask(f"x.dns.{CLUSTER}").rcode == dns.rcode.NXDOMAIN
        assert w.ask(f"dns.{CLUSTER}").rcode == dns.rcode.NXDOMAIN
        assert w.ask(server).message().answer
        assert w.count("cut_answers") == 0


def test_what_stands_deeper_than_search_lists_lead_is_asked() -> None:
    """Of another cluster's service CoreDNS answers e1.c2.web and denies c2.web, as if an endpoint's name."""
    endpoint = f"e1.c2.{SERVICE}"

    def play(asked: Asked) -> Reply:
        return cluster(SERVICE, *() if asked.qname == f"c2.{SERVICE}" else (endpoint,))(asked)

    with Upstream(play) as up, served(up) as w:
        assert w.ask(f"e2.c2.{SERVICE}").rcode == dns.rcode.NXDOMAIN
        assert w.ask(f"c2.{SERVICE}").rcode == dns.rcode.NXDOMAIN
        assert w.ask(endpoint).message().answer


def test_where_nothing_is_learned_what_is_known_counts() -> None:
    known = block(Forward((0,)), **CUT | {"cut_learn": False})
    with Upstream(cluster(SERVICE)) as up, served(up, known) as w:
        w.ask("a.com.cluster.local.")
        assert w.ask("com.cluster.local.").rcode == 3
        assert w.ask("b.com.cluster.local.").rcode == 3
        learned(w, up, 2)


def test_a_name_that_a_rule_makes_is_asked_for() -> None:
    steps = (
        NameStep("suffix", ".old.cluster.local.", ".team.svc.cluster.local.", automatic=True),
        Forward((0,)),
    )
    with Upstream(cluster(SERVICE)) as up, served(up, block(*steps, **CUT)) as w:
        w.ask("a.old.cluster.local.")
        w.ask("old.cluster.local.")
        assert w.ask("web.old.cluster.local.").message().answer
        learned(w, up, 3)


def test_a_question_for_an_ancestor_that_fails_is_put_once() -> None:
    def play(asked: Asked) -> Reply:
        if asked.qname.startswith(("a.", "b.")):
            return cluster(SERVICE)(asked)
        return asked.wire[:2] + b"\x80\x00" + bytes(8)  # an answer to no question

    with Upstream(play) as up, served(up) as w:
        w.ask("a.com.cluster.local.")
        w.wait(lambda: w.count("cut_questions") == 1 and w.post.inflight == 0, "the look's end")
        assert w.ask("b.com.cluster.local.").rcode == 3


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(".".join)


@given(have=st.lists(NAMES, min_size=1, max_size=4), questions=st.lists(NAMES, min_size=1, max_size=12))
@settings(max_examples=count("hypothesis_runs"))
def test_no_answer_is_another_than_the_servers(have: list[str], questions: list[str]) -> None:
    truth = cluster(*(f"{name}.{CLUSTER}" for name in have))
    with Upstream(truth) as up, served(up) as w:
        for name in questions:
            query = dns.message.make_query(f"{name}.{CLUSTER}", "A")
            said = w.ask(f"{name}.{CLUSTER}").message()
            meant = dns.message.from_wire(truth(Asked(query.to_wire(), ("", 0), False, 0.0)) or b"")  # type: ignore[arg-type]
            assert (said.rcode(), bool(said.answer)) == (meant.rcode(), bool(meant.answer)), name
