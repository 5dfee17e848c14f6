# SPDX-License-Identifier: Apache-2.0
"""What Python does for a block's chain: rewrites, templates, DNS64, and the queue to them and back."""

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from fastdns._segments import now_ms
from fastdns._testing.slow import LoopEnd
from fastdns.coordinator.slow.dns64 import Dns64
from fastdns.coordinator.slow.rewrites import Rewrites
from fastdns.coordinator.slow.steps import Ask, Client, Done, Fail, Go, Question, StepError
from fastdns.coordinator.slow.templates import Templates
from fastdns.coordinator.slow.thread import (
    BACK,
    JOB_ANSWER,
    JOB_ASK,
    PASSING,
    RESULT_DONE,
    RESULT_FAIL,
    RESULT_GO,
    RESULT_SELF,
    SlowThread,
)

if TYPE_CHECKING:
    from fastdns._testing.slow import Result

A, AAAA, CNAME, MX, TXT = 1, 28, 5, 15, 16
NAME_RULE: dict[str, Any] = {"kind": "NameRule", "answer_auto": False, "answers": []}


def question(name: str, rdtype: int = A, client: Client | None = None) -> Question:
    return Question(dns.name.from_text(name), rdtype, client=client)


def answer(*records: str, rcode: int = 0, authority: tuple[str, ...] = ()) -> dns.message.Message:
    message = dns.message.make_response(dns.message.make_query("any.", "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    for section, texts in ((message.answer, records), (message.authority, authority)):
        for text in texts:
            name, ttl, rdtype, data = text.split(None, 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, data))
    return message


def texts(message: dns.message.Message) -> list[str]:
    return [line for rrset in message.answer for line in rrset.to_text().splitlines()]


def rule(stop: bool = True, **fields: Any) -> dict[str, Any]:
    return {"stop": stop, "rule": fields}


def name_rule(match: str, from_: str, to: str, stop: bool = True, **more: Any) -> dict[str, Any]:
    return rule(stop, **(NAME_RULE | {"match": match, "from_": from_, "to": to} | more))


# ------------------------------------------------------------------------------ rewrite ----


@pytest.mark.parametrize(
    ("match", "from_", "to", "asked", "becomes"),
    [
        ("exact", "a.example.", "b.example.", "a.example.", "b.example."),
        ("exact", "a.example.", "b.example.", "x.a.example.", None),
        ("prefix", "a-", "b-", "a-1.example.", "b-1.example."),
        ("suffix", ".corp.", ".svc.cluster.local.", "x.y.corp.", "x.y.svc.cluster.local."),
        ("substring", "eu", "us", "eu.db.eu.", "us.db.us."),
        ("regex", r"(.*)-(us|eu)\.example\.$", "{1}.{2}.local.", "db-eu.example.", "db.eu.local."),
        ("regex", r"^nothing", "x.", "db.example.", None),
    ],
)
def test_a_name_is_rewritten(match: str, from_: str, to: str, asked: str, becomes: str | None) -> None:
    outcome = Rewrites([name_rule(match, from_, to)]).ask(question(asked))
    assert isinstance(outcome, Go)
    assert outcome.question.text == (becomes or asked)
    assert outcome.back == (becomes is not None)


def test_exact_puts_owners_and_targets_back() -> None:
    step = Rewrites([name_rule("exact", "a.example.", "b.local.")])
    asked = question("a.example.")
    went = step.ask(asked)
    assert isinstance(went, Go)
    came = answer("b.local. 30 A 10.0.0.1", "c.local. 30 CNAME b.local.")
    outcome = step.answer(asked, went.state, came)
    assert isinstance(outcome, Done)
    assert texts(outcome.message) == ["a.example. 30 IN A 10.0.0.1", "c.local. 30 IN CNAME a.example."]
    assert outcome.message.question[0].name.to_text() == "a.example."


def test_others_put_back_only_when_told() -> None:
    asked = question("x.corp.")
    for auto, owner in ((False, "x.local."), (True, "x.corp.")):
        step = Rewrites([name_rule("suffix", ".corp.", ".local.", answer_auto=auto)])
        went = step.ask(asked)
        assert isinstance(went, Go)
        outcome = step.answer(asked, went.state, answer("x.local. 30 A 10.0.0.1"))
        assert isinstance(outcome, Done)
        assert texts(outcome.message) == [f"{owner} 30 IN A 10.0.0.1"]


def test_a_suffix_goes_back_wherever_it_stands() -> None:
    step = Rewrites([name_rule("suffix", ".corp.", ".local.", answer_auto=True)])
    asked = question("x.corp.")
    went = step.ask(asked)
    assert isinstance(went, Go)
    came = answer("x.local. 30 CNAME y.local.", "y.local. 30 A 10.0.0.1")
    outcome = step.answer(asked, went.state, came)
    assert isinstance(outcome, Done)
    assert texts(outcome.message) == ["x.corp. 30 IN CNAME y.corp.", "y.corp. 30 IN A 10.0.0.1"]


def test_answers_by_regular_expressions() -> None:
    step = Rewrites(
        [
            name_rule(
                "regex",
                r"(.*)\.corp\.$",
                "{1}.local.",
                answers=[
                    {"part": "name", "regex": r"(.*)\.local\.$", "to": "{1}.corp."},
                    {"part": "value", "regex": r"(.*)\.svc\.$", "to": "{1}.public."},
                ],
            )
        ]
    )
    asked = question("x.corp.", MX)
    went = step.ask(asked)
    assert isinstance(went, Go)
    outcome = step.answer(asked, went.state, answer("x.local. 30 MX 10 mail.svc."))
    assert isinstance(outcome, Done)
    assert texts(outcome.message) == ["x.corp. 30 IN MX 10 mail.public."]


def test_rules_run_in_order_until_one_stops() -> None:
    rules = [
        name_rule("suffix", ".a.", ".b.", stop=False),
        name_rule("suffix", ".b.", ".c."),
        name_rule("suffix", ".c.", ".d."),
    ]
    outcome = Rewrites(rules).ask(question("x.a."))
    assert isinstance(outcome, Go)
    assert outcome.question.text == "x.c."


def test_type_ttl_and_rcode() -> None:
    step = Rewrites(
        [
            rule(False, kind="TypeRule", from_=AAAA, to=A),
            rule(False, kind="TtlRule", match="suffix", name=".example.", min_s=60, max_s=90),
            rule(kind="RcodeRule", match="exact", name="x.example.", from_=3, to=0),
        ]
    )
    asked = question("x.example.", AAAA)
    went = step.ask(asked)
    assert isinstance(went, Go)
    assert went.question.rdtype == A
    came = answer("x.example. 5 A 10.0.0.1", "y.example. 300 A 10.0.0.2", rcode=3)
    outcome = step.answer(asked, went.state, came)
    assert isinstance(outcome, Done)
    assert [rrset.ttl for rrset in outcome.message.answer] == [60, 90]
    assert outcome.message.rcode() == 0
    assert outcome.message.question[0].rdtype == AAAA
    empty = step.answer(asked, step.ask(asked).state, answer(rcode=3))  # type: ignore[union-attr]
    assert isinstance(empty, Done)
    assert empty.message.rcode() == 3, "without a record nothing is changed"


def test_a_cname_leads_elsewhere() -> None:
    step = Rewrites(
        [
            rule(kind="CnameRule", match="exact", from_="old.example.", to="new.example."),
        ]
    )
    asked = question("www.example.")
    went = step.ask(asked)
    assert isinstance(went, Go)
    came = answer("www.example. 30 CNAME old.example.", "old.example. 30 A 10.0.0.1")
    follow = step.answer(asked, went.state, came)
    assert isinstance(follow, Ask)
    assert follow.question.text == "new.example."
    outcome = step.answer(asked, follow.state, answer("new.example. 30 A 10.0.0.2"))
    assert isinstance(outcome, Done)
    assert texts(outcome.message) == [
        "www.example. 30 IN CNAME new.example.",
        "new.example. 30 IN A 10.0.0.2",
    ]


def test_edns_options_for_upstream() -> None:
    client = Client("10.42.0.7", 4711, True, "169.254.20.10", 53)
    local = {"kind": "EdnsLocalRule", "action": "set", "revert": False}
    step = Rewrites(
        [
            rule(False, **local, code=65001, data="abcd", variable=""),
            rule(False, **local, code=65002, data="", variable="{client_ip}"),
            rule(False, **(local | {"action": "replace"}), code=65003, data="", variable=""),
            rule(kind="EdnsSubnetRule", action="set", v4_len=20, v6_len=56, revert=False),
        ]
    )
    outcome = step.ask(question("x.", client=client))
    assert isinstance(outcome, Go)
    assert outcome.options.hex() == "fde90002abcd" + "fdea00040a2a0007" + "00080007" + "000114000a2a00"
    with pytest.raises(StepError, match="client_ip"):
        step.ask(question("x."))


def test_a_rule_that_makes_no_name_fails() -> None:
    with pytest.raises(StepError, match="no name"):
        Rewrites([name_rule("regex", "(.*)", "a..b.")]).ask(question("x."))


# ----------------------------------------------------------------------------- template ----


def template(**more: Any) -> dict[str, Any]:
    return {"qclass": 1, "qtype": A, "zones": ["example."], "match": [".*"]} | more


def test_a_template_answers() -> None:
    step = Templates(
        [
            template(
                match=[r"^ip-(?P<a>\d+)-(\d+)-(\d+)-(\d+)\.example\.$"],
                answer=[
                    "{{ .Name }} 60 A {{ .Group.a }}.{{ index .Match 2 }}.{{ .Group.3 }}.{{ index .Match 4 }}"
                ],
                additional=['ns.{{ .Zone }} 60 IN TXT "{{ .Type }} {{ .Class }}"'],
            )
        ]
    )
    outcome = step.ask(question("ip-10-1-2-3.example."))
    assert isinstance(outcome, Done)
    assert texts(outcome.message) == ["ip-10-1-2-3.example. 60 IN A 10.1.2.3"]
    assert outcome.message.additional[0].to_text() == 'ns.example. 60 IN TXT "A IN"'
    assert outcome.message.flags & dns.flags.AA
    assert not outcome.passing
    assert step.matches == 1


@pytest.mark.parametrize(
    ("rule", "name", "rdtype", "outcome"),
    [
        (template(), "x.other.", A, Go),
        (template(), "x.example.", AAAA, Go),
        (template(qtype=255), "x.example.", TXT, Done),
        (template(match=["^nothing"]), "x.example.", A, Fail),
        (template(match=["^nothing"], fallthrough=[]), "x.example.", A, Go),
        (template(match=["^nothing"], fallthrough=["sub.example."]), "x.example.", A, Fail),
        (template(rcode=2), "x.example.", A, Fail),
        (template(rcode=3), "x.example.", A, Done),
    ],
)
def test_what_a_template_takes(rule: dict[str, Any], name: str, rdtype: int, outcome: type) -> None:
    assert isinstance(Templates([rule]).ask(question(name, rdtype)), outcome)


def test_names_without_a_dot_are_whole() -> None:
    step = Templates([template(answer=["{{ .Name }} 60 IN CNAME target.other", "x 60 IN MX 10 mail"])])
    outcome = step.ask(question("x.example.", A))
    assert isinstance(outcome, Ask)
    made, _ = outcome.state
    assert texts(made) == ["x.example. 60 IN CNAME target.other.", "x. 60 IN MX 10 mail."]


def test_a_template_cname_is_followed() -> None:
    step = Templates([template(answer=["{{ .Name }} 60 IN CNAME target.other."])])
    asked = question("x.example.")
    follow = step.ask(asked)
    assert isinstance(follow, Ask)
    outcome = step.answer(asked, follow.state, answer("target.other. 30 A 10.0.0.9"))
    assert isinstance(outcome, Done)
    assert texts(outcome.message) == [
        "x.example. 60 IN CNAME target.other.",
        "target.other. 30 IN A 10.0.0.9",
    ]


def test_who_asks_is_never_stored() -> None:
    client = Client("10.42.0.7", 4711, False, "169.254.20.10", 53)
    step = Templates([template(answer=["{{ .Name }} 60 IN A {{ .Remote }}"])])
    assert step.by_client
    outcome = step.ask(question("x.example.", client=client))
    assert isinstance(outcome, Done)
    assert outcome.passing
    assert texts(outcome.message) == ["x.example. 60 IN A 10.42.0.7"]


def test_a_template_sees_the_message() -> None:
    fields = ("RecursionDesired", "CheckingDisabled", "Opcode", "Ns")
    shown = " ".join(f"{{{{ .Message.{field} }}}}" for field in fields)
    step = Templates([template(qtype=TXT, answer=[f'{{{{ .Name }}}} 60 IN TXT "{shown}"'])])
    for asked, said in (
        (question("x.example.", TXT), "true false 0 []"),
        (
            replace(question("x.example.", TXT), recursion_desired=False, checking_disabled=True),
            "false true 0",
        ),
    ):
        outcome = step.ask(asked)
        assert isinstance(outcome, Done)
        assert said in texts(outcome.message)[0]
        assert not outcome.passing, "RD and CD are not shared by queries that differ in them"


def test_an_extended_error_goes_with_what_a_template_made() -> None:
    error = {"ederror": {"kind": "ExtendedError", "code": 15, "text": "no"}}
    outcome = Templates([template(**error)]).ask(question("x.example."))
    assert isinstance(outcome, Done)
    assert outcome.told
    step = Templates([template(answer=["{{ .Name }} 60 IN CNAME target.other."], **error)])
    asked = question("x.example.")
    followed = step.ask(asked)
    assert isinstance(followed, Ask)
    outcome = step.answer(asked, followed.state, answer("target.other. 60 A 192.0.2.1"))
    assert isinstance(outcome, Done)
    assert outcome.told


@pytest.mark.parametrize(
    "record", ["{{ .Name }}", "{{ .Name }} 60 IN A nonsense", "{{ index .Match 7 }} 60 IN A 1.2.3.4"]
)
def test_a_template_that_makes_no_record_fails(record: str) -> None:
    with pytest.raises(StepError, match="template"):
        Templates([template(answer=[record])]).ask(question("x.example."))


# -------------------------------------------------------------------------------- dns64 ----


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        # RFC 6052 section 2.4
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221"),
        ("64:ff9b::/96", "64:ff9b::c000:221"),
    ],
)
def test_dns64_addresses(prefix: str, address: str) -> None:
    assert Dns64(prefix).address("192.0.2.33") == str(ipaddress.IPv6Address(address))


def test_dns64_makes_aaaa_of_a() -> None:
    step = Dns64("64:ff9b::/96")
    asked = question("x.example.", AAAA)
    went = step.ask(asked)
    assert isinstance(went, Go)
    assert went.back
    empty = answer(authority=("example. 20 SOA ns.example. host.example. 1 2 3 4 5",))
    more = step.answer(asked, None, empty)
    assert isinstance(more, Ask)
    assert more.question.rdtype == A
    came = answer(
        "x.example. 300 CNAME y.example.", "y.example. 300 A 192.0.2.1", "y.example. 300 A 192.0.2.2"
    )
    outcome = step.answer(asked, more.state, came)
    assert isinstance(outcome, Done)
    assert sorted(texts(outcome.message)) == [
        "x.example. 300 IN CNAME y.example.",
        "y.example. 20 IN AAAA 64:ff9b::c000:201",
        "y.example. 20 IN AAAA 64:ff9b::c000:202",
    ]


def test_dns64_is_for_clients_without_ipv4() -> None:
    asked = replace(question("x.example.", AAAA), family=4)
    for allowed in (False, True):
        went = Dns64("64:ff9b::/96", allow_ipv4=allowed).ask(asked)
        assert isinstance(went, Go)
        assert went.back == allowed


def test_dns64_leaves_others_alone() -> None:
    asked = question("x.example.", AAAA)
    has = answer("x.example. 300 AAAA 2001:db8::1")
    assert isinstance(Dns64("64:ff9b::/96").answer(asked, None, has), Done)
    assert isinstance(Dns64("64:ff9b::/96", translate_all=True).answer(asked, None, has), Ask)
    assert isinstance(Dns64("64:ff9b::/96").answer(asked, None, answer(rcode=3)), Done)
    went = Dns64("64:ff9b::/96").ask(question("x.example.", A))
    assert isinstance(went, Go)
    assert not went.back


# -------------------------------------------------------------------------------- queue ----

REWRITE = {"plugin": "rewrite", "rules": [name_rule("regex", r"(.*)\.a\.$", "{1}.b.", answer_auto=True)]}
TEMPLATE = {"plugin": "template"} | template(answer=["{{ .Name }} 60 IN A 10.0.0.1"])
REMOTE = {"plugin": "template"} | template(answer=["{{ .Name }} 60 IN A {{ .Remote }}"])


def wire(name: str) -> bytes:
    return dns.name.from_text(name).to_wire() or b""


def result_of(end: LoopEnd) -> "Result":
    until = time.monotonic() + 5.0
    while (found := end.next()) is None:
        assert time.monotonic() < until, "no result"
        time.sleep(0.001)
    return found


@contextlib.contextmanager
def running(end: LoopEnd, steps: dict[tuple[int, int], dict[str, Any]]) -> Iterator[None]:
    thread = SlowThread(end.queue(), steps)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


@pytest.fixture
def end() -> Iterator[LoopEnd]:
    loop_end = LoopEnd()
    steps = {(3, 0): REWRITE, (3, 1): TEMPLATE, (4, 0): REMOTE}
    with running(loop_end, steps):
        yield loop_end


def test_through_the_queue_and_back(end: LoopEnd) -> None:
    serial = end.put(JOB_ASK, 9, 3, 0, wire("x.a."))
    kind, flight, same, block, step, flags, _, qname, qtype, _, _, _ = result_of(end)
    assert (kind, flight, same, block, step) == (RESULT_GO, 9, serial, 3, 0)
    assert (flags, qname, qtype) == (BACK, wire("x.b."), A)
    end.put(JOB_ANSWER, 9, 3, 0, wire("x.b."), message=answer("x.b. 30 A 10.0.0.5").to_wire())
    kind, *_, message = result_of(end)
    assert kind == RESULT_DONE
    assert texts(dns.message.from_wire(message)) == ["x.a. 30 IN A 10.0.0.5"]
    assert end.waiting(3) == 0


def test_answers_that_depend_on_the_client_are_marked(end: LoopEnd) -> None:
    end.put(JOB_ASK, 1, 4, 0, wire("x.example."), client=True)
    kind, _, _, _, _, flags, *_, message = result_of(end)
    assert (kind, flags) == (RESULT_DONE, PASSING)
    assert texts(dns.message.from_wire(message)) == ["x.example. 60 IN A 127.0.0.1"]


def test_an_answer_nobody_waits_for_and_one_that_cannot_be_read(end: LoopEnd) -> None:
    end.put(JOB_ANSWER, 2, 3, 0, wire("x.b."), message=b"\0" * 12)
    assert result_of(end)[0] == RESULT_FAIL
    end.put(JOB_ASK, 2, 3, 0, wire("x.a."))
    assert result_of(end)[0] == RESULT_GO
    end.put(JOB_ANSWER, 2, 3, 0, wire("x.b."), message=b"\1" * 30)
    assert result_of(end)[0] == RESULT_FAIL
    end.put(JOB_ASK, 2, 3, 1, wire("x.example."))
    assert result_of(end)[0] == RESULT_DONE, "and the thread goes on"


def test_a_flights_number_comes_back_with_another_question(end: LoopEnd) -> None:
    for name in ("x.a.", "y.a."):  # the first one's answer never comes
        end.put(JOB_ASK, 5, 3, 0, wire(name))
        assert result_of(end)[0] == RESULT_GO
    end.put(JOB_ANSWER, 5, 3, 0, wire("y.b."), message=answer("y.b. 30 A 10.0.0.5").to_wire())
    assert texts(dns.message.from_wire(result_of(end)[-1])) == ["y.a. 30 IN A 10.0.0.5"]


def test_a_block_has_its_limit_and_the_ring_an_end() -> None:
    end = LoopEnd()  # nobody takes
    assert [bool(end.put(JOB_ASK, i, 3, 0, wire("x.a."), limit=2)) for i in range(3)] == [True, True, False]
    assert end.put(JOB_ASK, 9, 4, 0, wire("x.a."), limit=2), "another block is not held up"
    put = 0
    while end.put(JOB_ASK, 9, 5, 0, wire("x.a."), limit=60000, message=b"\0" * 60000):
        put += 1
    assert put == 4  # of 256 KiB
    assert not end.put(JOB_ANSWER, 9, 6, 0, wire("x.a."), message=b"\0" * 60000)


def test_a_question_that_hangs_is_named() -> None:
    end = LoopEnd()
    queue = end.queue()
    assert not end.stuck(now_ms() + 10**6)
    end.put(JOB_ASK, 1, 3, 0, wire("x.a."), key_hash=4711)
    job = queue.take()
    assert job is not None
    assert not end.stuck(now_ms())
    assert end.stuck(now_ms() + 5001) == 4711
    assert end.in_hand() == (4711, wire("x.a."))
    assert queue.put(RESULT_FAIL, job, rcode=2)
    assert not end.stuck(now_ms() + 10**6)
    assert end.in_hand()[0] == 0


def test_a_step_that_asks_the_server_itself() -> None:
    end = LoopEnd()
    spec = {"plugin": "template"} | template(answer=["{{ .Name }} 60 IN CNAME x.{{ .Name }}"])
    with running(end, {(0, 0): spec}):
        end.put(JOB_ASK, 1, 0, 0, wire("x.example."))
        kind, _, _, _, _, _, _, qname, *_ = result_of(end)
    assert (kind, qname) == (RESULT_SELF, wire("x.x.example."))


def test_results_wait_for_room() -> None:
    end = LoopEnd()
    put = 0
    while end.put(JOB_ASK, put % 100, 3, 1, wire("x.example."), limit=60000):
        put += 1
    with running(end, {(3, 1): TEMPLATE}):
        came = 0
        until = time.monotonic() + 20
        while came < put:
            assert time.monotonic() < until, f"{came} of {put}"
            came += end.next() is not None
    assert put > 1000
