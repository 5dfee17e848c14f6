# SPDX-License-Identifier: Apache-2.0
"""Steps of a block's chain that need the Python thread: through the loop, there and back."""

import json
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import dns.rdatatype

from fastdns.control.model import Block, Forward, Limits, NameStep, SlowStep, Step
from tests.coordtools import (
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    Asked,
    Reply,
    World,
    records,
    reply,
    silence,
    world,
)
from tests.coordtools import Upstream as Server
from tests.unit.test_chain import block, chain, running

A, AAAA = 1, 28
TEMPLATE, REWRITE, DNS64 = 5, 6, 7


def address(asked: Asked) -> Reply:
    return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"))


def asked_for(server: Server) -> list[str]:
    return [asked.query.question[0].to_text() for asked in server.asked]


def with_steps(server: Server, *steps: Step) -> AbstractContextManager[World]:
    return running({".": block(*steps, Forward((0,)))}, server)


def rewrite(match: str, from_: str, to: str, auto: bool = True, stop: bool = True) -> dict[str, Any]:
    rule = {"kind": "NameRule", "match": match, "from_": from_, "to": to, "answer_auto": auto, "answers": []}
    return {"stop": stop, "rule": rule}


def slow(plugin: str, **more: Any) -> SlowStep:
    return SlowStep(json.dumps({"plugin": plugin} | more))


def template(**more: Any) -> SlowStep:
    return slow("template", **({"qclass": 1, "qtype": A, "zones": ["."], "match": [".*"]} | more))


REGEX = slow("rewrite", rules=[rewrite("regex", r"(.*)\.corp\.$", "{1}.local.")])
FOLLOW = template(match=[r"^alias\."], answer=["{{ .Name }} 60 IN CNAME target.test."], fallthrough=[])


def test_a_regular_expression_rewrites() -> None:
    with Server(address) as one, with_steps(one, REGEX) as w:
        answer = w.ask("x.corp.")
        assert asked_for(one) == ["x.local. IN A"]
        assert [str(rrset) for rrset in answer.message().answer] == ["x.corp. 300 IN A 192.0.2.1"]
        assert answer.plugin == REWRITE
        assert w.count("stores") == 1
        assert w.ask("other.test.").message().answer, "what it doesn't match goes on as it is"
        assert asked_for(one)[1] == "other.test. IN A"


def test_a_template_answers_without_an_upstream() -> None:
    step = template(
        match=[r"^ip-(\d+)\."], answer=["{{ .Name }} 60 IN A 10.0.0.{{ .Group.1 }}"], fallthrough=[]
    )
    with Server(silence) as one, with_steps(one, step) as w:
        answer = w.ask("ip-7.test.")
        assert [str(rrset) for rrset in answer.message().answer] == ["ip-7.test. 60 IN A 10.0.0.7"]
        assert answer.plugin == TEMPLATE
        assert not one.asked


def test_the_option_of_a_template_is_named_in_its_answer_alone() -> None:
    step = template(
        match=[r"^ip\."], answer=["{{ .Name }} 60 IN A 10.0.0.7"], fallthrough=[], ederror={"code": 15}
    )
    step = replace(step, told=(15, "blocked"))
    with Server(address) as one, with_steps(one, REGEX, step) as w:
        assert w.ask("ip.test.").told == 2
        assert w.ask("other.test.").told == 0
        assert one.asked


def test_a_cname_of_a_template_is_followed_through_the_server() -> None:
    with Server(address) as one, with_steps(one, FOLLOW) as w:
        answer = w.ask("alias.test.")
        assert [str(rrset) for rrset in answer.message().answer] == [
            "alias.test. 60 IN CNAME target.test.",
            "target.test. 300 IN A 192.0.2.1",
        ]
        assert asked_for(one) == ["target.test. IN A"]
        assert w.count("stores") == 2, "the target is a question like any other"
        assert w.ask("target.test.").plugin != TEMPLATE
        assert len(one.asked) == 1, "and answered from the cache"
        assert w.ask("alias.other.").message().answer
        assert len(one.asked) == 1, "its second use, too"


def test_dns64_asks_for_the_other_family() -> None:
    def play(asked: Asked) -> Reply:
        if asked.query.question[0].rdtype == dns.rdatatype.AAAA:
            return reply(asked, soa=60)
        return address(asked)

    step = slow("dns64", prefix="64:ff9b::/96", translate_all=False, allow_ipv4=False)
    with Server(play) as one, with_steps(one, step) as w:
        answer = w.ask("x.test.", AAAA)
        assert [str(rrset) for rrset in answer.message().answer] == ["x.test. 60 IN AAAA 64:ff9b::c000:201"]
        assert asked_for(one) == ["x.test. IN AAAA", "x.test. IN A"]
        assert answer.plugin == DNS64


def test_the_loops_rules_and_the_threads_steps_around_them() -> None:
    def play(asked: Asked) -> Reply:
        if asked.query.question[0].rdtype == dns.rdatatype.AAAA:
            return reply(asked, soa=60)
        return address(asked)

    step = slow("dns64", prefix="64:ff9b::/96", translate_all=False, allow_ipv4=False)
    with (
        Server(play) as one,
        with_steps(one, step, NameStep("exact", "a.test.", "b.test.", automatic=True)) as w,
    ):
        answer = w.ask("a.test.", AAAA)
        assert [str(rrset) for rrset in answer.message().answer] == ["a.test. 60 IN AAAA 64:ff9b::c000:201"]
        assert asked_for(one) == ["b.test. IN AAAA", "b.test. IN A"]


def test_a_template_that_leads_to_itself_ends() -> None:
    step = template(answer=["{{ .Name }} 60 IN CNAME {{ .Name }}"])
    with Server(silence) as one, with_steps(one, step) as w:
        assert w.ask_failing("x.test.") == EDE_OTHER
    endless = template(answer=["{{ .Name }} 60 IN CNAME x.{{ .Name }}"])
    with Server(silence) as one, with_steps(one, endless) as w:
        answer = w.ask("y.test.")
        assert 1 <= len(answer.message().answer) <= 9, "as deep as it goes"


def test_a_template_that_fails_is_servfail() -> None:
    with Server(silence) as one, with_steps(one, template(answer=["nonsense"])) as w:
        assert w.ask_failing("x.test.") == EDE_OTHER
        assert w.ask_failing("y.test.") == EDE_OTHER, "and the thread goes on"


def test_a_block_at_its_limit_refuses_and_others_go_on() -> None:
    limited: Block = block(REGEX, Forward((0,)), slow_limit=0)
    with Server(address) as one, running({"limited.": limited, ".": block(Forward((0,)))}, one) as w:
        assert w.ask_failing("x.limited.") == EDE_OTHER
        assert w.count("slow_full") == 1
        assert w.ask("x.test.").message().answer


def test_answers_that_come_late_are_nobodys() -> None:
    """The flight's time is over while upstream is silent: what the thread kept of it does no harm."""
    make = chain({".": block(REGEX, Forward((0,)))}, limits=Limits(question_deadline_ms=1000))
    with Server(silence) as one, world(one, make=make) as w:
        assert w.ask_failing("x.corp.") == EDE_NO_REACHABLE_AUTHORITY
        one.play = address
        assert w.ask("y.corp.").message().answer


def test_who_waits_for_a_later_questions_answer_ends_first() -> None:
    """The thread is busy and comes to an alias when its target is under way already: the alias's time ends
    before the target's, and it has no upstream that could have failed it."""
    other = template(match=[r"^n\d"], answer=["{{ .Name }} 60 IN A 10.0.0.7"], fallthrough=[])
    make = chain(
        {".": block(other, FOLLOW, Forward((0,)), slow_limit=400)}, limits=Limits(question_deadline_ms=400)
    )
    with Server(silence) as one, world(one, make=make) as w:
        tickets = {w.put(f"n{i}.test.") for i in range(300)}
        tickets.add(w.put("alias.test."))
        time.sleep(0.005)
        tickets.add(w.put("target.test."))
        assert w.take_all(len(tickets)).keys() == tickets
        assert w.count("slow_full") == 0
        assert w.alive()
