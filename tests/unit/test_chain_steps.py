# SPDX-License-Identifier: Apache-2.0
"""Steps of a block's chain that the loop takes by itself: rewrite, hosts, whoami."""

import ipaddress
from contextlib import AbstractContextManager

import dns.rcode
import dns.rdatatype
import pytest

from fastdns.control.model import (
    FamilyStep,
    Forward,
    HostRecord,
    HostsStep,
    NameStep,
    ReplyStep,
    Step,
    TypeStep,
    WhoamiStep,
)
from tests.coordtools import (
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    Asked,
    Reply,
    World,
    records,
    reply,
    silence,
    take_apart,
    wire,
)
from tests.coordtools import Upstream as Server
from tests.unit.test_chain import block, running

CHANGED = 1
REWRITE, HOSTS, WHOAMI, PLAIN = 6, 4, 9, 3


def address(asked: Asked) -> Reply:
    return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"))


def asked_for(server: Server) -> list[str]:
    return [asked.query.question[0].to_text() for asked in server.asked]


def with_steps(server: Server, *steps: Step) -> AbstractContextManager[World]:
    return running({".": block(*steps, Forward((0,)))}, server)


# --------------------------------------------------------------------------- questions ----


@pytest.mark.parametrize(
    ("rule", "name", "asked"),
    [
        (NameStep("exact", "a.example.", "b.test."), "a.example.", "b.test."),
        (NameStep("exact", "a.example.", "b.test."), "A.Example.", "b.test."),
        (NameStep("exact", "a.example.", "b.test."), "x.a.example.", "x.a.example."),
        (NameStep("exact", "example.", "."), "example.", "."),
        (NameStep("prefix", "old.", "new."), "old.example.", "new.example."),
        (NameStep("prefix", "old.", "new."), "older.example.", "older.example."),
        (NameStep("suffix", ".old.", ".new."), "a.b.old.", "a.b.new."),
        (NameStep("suffix", ".old.", ".new."), "old.", "old."),
        (NameStep("suffix", "old.", "new."), "so-old.", "so-new."),
        (NameStep("substring", ".mid.", ".in.between."), "a.mid.b.mid.c.", "a.in.between.b.in.between.c."),
        (NameStep("substring", "aa", "a"), "aaaaa.", "aaa."),
        (NameStep("exact", r"a\.b.", "c."), r"a\.b.", "c."),
        (NameStep("exact", r"a\007.", r"\255b."), r"a\007.", r"\255b."),
    ],
)
def test_another_name_is_asked(rule: NameStep, name: str, asked: str) -> None:
    with Server(address) as one, with_steps(one, rule) as w:
        answer = w.ask(name)
        assert one.asked[0].qname == asked
        assert answer.qname == wire(name.lower()), "the question is the client's own"
        assert answer.message().question[0].name.to_text() == name.lower()
        assert (answer.plugin, answer.marks) == ((REWRITE, CHANGED) if asked != name.lower() else (PLAIN, 0))
        # The finished answer is stored, under the client's key.
        assert w.count("stores") == 1
        assert answer.key_hash == w.side[0].put(99, wire(name))


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        ([NameStep("exact", "a.", "b."), NameStep("exact", "b.", "c.")], "b. IN A"),
        ([NameStep("exact", "a.", "b.", stop=False), NameStep("exact", "b.", "c.")], "c. IN A"),
        ([NameStep("exact", "x.", "y."), NameStep("exact", "a.", "c.")], "c. IN A"),
        ([TypeStep("type", 1, 28, stop=False), TypeStep("class", 1, 3)], "a. CH AAAA"),
        ([TypeStep("type", 28, 1)], "a. IN A"),
        ([TypeStep("type", 1, 28), TypeStep("type", 28, 15)], "a. IN AAAA"),
    ],
)
def test_rules_run_in_order(rules: list[Step], asked: str) -> None:
    def play(asked: Asked) -> Reply:
        return reply(asked, soa=60)

    with Server(play) as one, with_steps(one, *rules) as w:
        answer = w.ask("a.")
        assert asked_for(one) == [asked]
        assert (answer.qtype, answer.qclass) == (1, 1)


def test_a_rule_that_makes_no_name() -> None:
    rule = NameStep("prefix", "old.", "x" * 64 + ".")
    with Server(address) as one, with_steps(one, rule) as w:
        assert w.ask_failing("old.example.") == EDE_OTHER
        long = "old." + ".".join(["y" * 60] * 4) + "."
        grow = ".".join(["z" * 50] * 2)
    with Server(address) as one, with_steps(one, NameStep("prefix", "old.", f"{grow}.")) as w:
        assert w.ask_failing(long) == EDE_OTHER
        assert w.ask("old.example.").rcode == 0


def test_a_rewritten_name_meets_the_other_steps() -> None:
    steps = (
        NameStep("suffix", ".old.", ".corp.", automatic=True),
        HostsStep({"db.corp.": HostRecord((bytes([10, 0, 0, 1]),))}, through=(".",)),
        Forward((1,), zone="corp."),
        Forward((0,)),
    )
    with Server(address) as one, Server(address) as two, running({".": block(*steps)}, one, two) as w:
        assert w.ask("db.old.").message().answer[0].to_text() == "db.old. 3600 IN A 10.0.0.1"
        w.ask("www.old.")
        w.ask("www.example.")
        assert ([a.qname for a in one.asked], [a.qname for a in two.asked]) == (
            ["www.example."],
            ["www.corp."],
        )


# ----------------------------------------------------------------------------- replies ----


def answers(w: World, name: str, qtype: str = "A") -> list[str]:
    message = w.ask(name, qtype).message()
    sections = (message.answer, message.authority, message.additional)
    return [text for section in sections for rrset in section for text in rrset.to_text().splitlines()]


def chain_of_names(asked: Asked) -> Reply:
    message = [
        records(asked.qname, 60, "CNAME", f"alias.{asked.qname}"),
        records(f"alias.{asked.qname}", 60, "A", "192.0.2.1"),
    ]
    return reply(asked, *message)


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        (
            NameStep("exact", "a.example.", "b.test.", automatic=True), "a.example.",
            ["a.example. 60 IN CNAME alias.b.test.", "alias.b.test. 60 IN A 192.0.2.1"],
        ),
        (
            NameStep("exact", "a.example.", "b.test."), "a.example.",
            ["b.test. 60 IN CNAME alias.b.test.", "alias.b.test. 60 IN A 192.0.2.1"],
        ),
        (
            NameStep("suffix", ".example.", ".test.", automatic=True), "a.example.",
            ["a.example. 60 IN CNAME alias.a.example.", "alias.a.example. 60 IN A 192.0.2.1"],
        ),
        (
            NameStep("prefix", "a.", "b.", automatic=True), "a.example.",
            ["a.example. 60 IN CNAME alias.b.example.", "alias.b.example. 60 IN A 192.0.2.1"],
        ),
        (
            NameStep("substring", "xam", "s", automatic=True), "a.example.",
            ["a.example. 60 IN CNAME alias.a.esple.", "alias.a.esple. 60 IN A 192.0.2.1"],
        ),
    ],
)  # fmt: skip
def test_names_are_mapped_back(rule: NameStep, name: str, expected: list[str]) -> None:
    with Server(chain_of_names) as one, with_steps(one, rule) as w:
        assert answers(w, name) == expected


def test_rules_are_undone_in_reverse_order() -> None:
    rules = (
        NameStep("suffix", ".a.", ".b.", automatic=True, stop=False),
        NameStep("suffix", ".b.", ".c.", automatic=True, stop=False),
        NameStep("exact", "www.c.", "www.d.", automatic=True),
    )
    with Server(chain_of_names) as one, with_steps(one, *rules) as w:
        assert answers(w, "www.a.") == [
            "www.a. 60 IN CNAME alias.www.d.", "alias.www.d. 60 IN A 192.0.2.1"
        ]  # fmt: skip
        assert one.asked[0].qname == "www.d."


@pytest.mark.parametrize(
    ("rdtype", "rdata", "expected"),
    [
        ("CNAME", "x.test.", "x.example."),
        ("NS", "x.test.", "x.example."),
        ("PTR", "x.test.", "x.example."),
        ("MX", "10 x.test.", "10 x.example."),
        ("SRV", "1 2 3 x.test.", "1 2 3 x.example."),
        ("SOA", "x.test. y.test. 1 2 3 4 5", "x.example. y.test. 1 2 3 4 5"),
        ("DNAME", "x.test.", "x.example."),
        ("NAPTR", '1 2 "u" "s" "r" x.test.', '1 2 "u" "s" "r" x.example.'),
        ("TXT", '"x.test."', '"x.test."'),
        ("RP", "x.test. y.test.", "x.test. y.test."),
    ],
)
def test_values_are_mapped_back(rdtype: str, rdata: str, expected: str) -> None:
    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 60, rdtype, rdata))

    rule = NameStep("suffix", ".example.", ".test.", automatic=True)
    with Server(play) as one, with_steps(one, rule) as w:
        assert answers(w, "a.example.", rdtype) == [f"a.example. 60 IN {rdtype} {expected}"]


def test_ttls_within_bounds() -> None:
    def play(asked: Asked) -> Reply:
        return reply(
            asked,
            *(records(asked.qname, ttl, "A", f"192.0.2.{number}") for number, ttl in enumerate((1, 50, 900))),
        )

    rule = ReplyStep("ttl", "suffix", "example.", 10, 100)
    with Server(play) as one, with_steps(one, rule) as w:
        assert w.ask("a.example.").ttls() == [10, 50, 100]
        assert w.ask("a.test.").ttls() == [1, 50, 900]


def test_one_code_for_another() -> None:
    def play(asked: Asked) -> Reply:
        if "bare" in asked.qname:
            return reply(asked, rcode=dns.rcode.NXDOMAIN)
        return reply(asked, rcode=dns.rcode.NXDOMAIN, soa=60)

    rule = ReplyStep("rcode", "suffix", "example.", dns.rcode.NXDOMAIN, dns.rcode.NOERROR)
    with Server(play) as one, with_steps(one, rule) as w:
        assert w.ask("a.example.").rcode == dns.rcode.NOERROR
        assert w.ask("bare.example.").rcode == dns.rcode.NXDOMAIN, "there is no record that it is applied to"
        assert w.ask("a.test.").rcode == dns.rcode.NXDOMAIN


def test_a_large_answer_is_mapped_back() -> None:
    def play(asked: Asked) -> Reply:
        return reply(
            asked,
            *(records(asked.qname, 60, "SRV", f"0 0 53 host{number}.b.test.") for number in range(900)),
        )

    rule = NameStep("suffix", ".example.", ".test.", automatic=True)
    with Server(play) as one, with_steps(one, rule) as w:
        message = w.ask("a.example.", "SRV").message()
        assert len(message.answer[0]) == 900
        assert {one.target.to_text().partition(".")[2] for one in message.answer[0]} == {"b.example."}


def test_too_many_questions_that_rules_changed() -> None:
    rule = NameStep("suffix", ".example.", ".test.")
    tables = {".": block(rule, Forward((0,)))}
    with Server(silence) as one, running(tables, one, region={"pending": 256}) as w:
        places = 2 * 256 // 8
        for number in range(places + 1):
            w.put(f"n{number}.example.", worker=number % 2)
        w.wait(lambda: w.count("changed_full") == 1, "a full table")
        w.wait(lambda: w.post.inflight == places, "the end of the round, which publishes that")


# ------------------------------------------------------------------------------- hosts ----

TABLE = {
    "a.example.": HostRecord(
        (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])), (ipaddress.ip_address("fd00::1").packed,)
    ),
    "four.example.": HostRecord((bytes([10, 0, 0, 4]),)),
    "1.0.0.10.in-addr.arpa.": HostRecord(pointers=("a.example.", "b.example.")),
}


def test_hosts_answer() -> None:
    with Server(address) as one, with_steps(one, HostsStep(TABLE, ttl_s=77)) as w:
        answer = w.ask("A.example.")
        assert [item.address for item in answer.message().answer[0]] == ["10.0.0.1", "10.0.0.2"]
        assert (answer.ttls(), bool(answer.msg_flags & 0x400)) == ([77, 77], True)
        assert (answer.plugin, answer.marks) == (HOSTS, CHANGED)
        assert [i.address for i in w.ask("a.example.", "AAAA").message().answer[0]] == ["fd00::1"]
        assert [i.target.to_text() for i in w.ask("1.0.0.10.in-addr.arpa.", "PTR").message().answer[0]] == [
            "a.example.", "b.example."
        ]  # fmt: skip
        for name, qtype in (("four.example.", "AAAA"), ("a.example.", "MX")):
            answer = w.ask(name, qtype)
            assert (answer.rcode, answer.counts) == (0, (0, 0, 0)), "known, but not this type"
        assert one.asked == []
        assert w.count("stores") == 3


def test_what_hosts_do_not_know() -> None:
    with Server(address) as one:
        with with_steps(one, HostsStep(TABLE)) as w:
            assert w.ask_failing("b.example.") == EDE_OTHER
            w.ask("2.0.0.10.in-addr.arpa.", "PTR")
            assert w.ask_failing("1.0.0.10.in-addr.arpa.") == EDE_OTHER, "only its PTR is known"
            assert asked_for(one) == ["2.0.0.10.in-addr.arpa. IN PTR"], "reverse names always go on"
        steps = HostsStep(TABLE, zones=("example.", "test."), through=("test.",))
        with with_steps(one, steps) as w:
            assert w.ask("www.other.").rcode == 0
            assert w.ask("www.test.").rcode == 0
            assert w.ask_failing("b.example.") == EDE_OTHER


def test_hosts_with_an_asterisk() -> None:
    names = {
        "*.example.": HostRecord((bytes([10, 0, 0, 1]),)),
        "*.deep.example.": HostRecord((bytes([10, 0, 0, 2]),)),
        "own.example.": HostRecord((), (ipaddress.ip_address("fd00::1").packed,)),
    }
    with Server(address) as one, with_steps(one, HostsStep(names)) as w:
        found = {
            name: w.ask(name).message().answer for name in ("a.example.", "b.a.example.", "x.deep.example.")
        }
        assert [answer[0][0].address for answer in found.values()] == ["10.0.0.1", "10.0.0.1", "10.0.0.2"]
        assert found["b.a.example."][0].name.to_text() == "b.a.example."
        assert w.ask("own.example.").counts == (0, 0, 0), "a name of its own is no other's"
        assert w.ask_failing("example.") == EDE_OTHER
        assert w.ask_failing("a.test.") == EDE_OTHER


def test_hosts_of_many_names() -> None:
    names = {f"n{number}.example.": HostRecord((number.to_bytes(4, "big"),)) for number in range(5000)}
    with Server(address) as one, with_steps(one, HostsStep(names)) as w:
        for number in (0, 1, 2500, 4999):
            (item,) = w.ask(f"n{number}.example.").message().answer[0]
            assert int(ipaddress.ip_address(item.address)) == number
        assert w.ask_failing("n5000.example.") == EDE_OTHER


# ------------------------------------------------------------- a family that isn't there ----


def test_a_family_that_is_not_there() -> None:
    steps = (FamilyStep(dns.rdatatype.AAAA, "example.", ("v6.example.",)), Forward((0,)))
    with Server(address) as one, with_steps(one, *steps) as w:
        for name in ("example.", "a.b.example."):
            message = w.ask(name, "AAAA").message()
            assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])
            (soa,) = message.authority
            assert (soa.name.to_text(), soa.ttl, soa[0].minimum) == ("example.", 300, 300)
            assert (soa[0].mname.to_text(), soa[0].rname.to_text()) == ("example.", "hostmaster.example.")
        assert asked_for(one) == []
        w.ask("a.b.example.", "A")
        w.ask("x.v6.example.", "AAAA")
        w.ask("a.b.test.", "AAAA")
        w.ask("a.b.example.", "AAAA", qclass=3)
        assert asked_for(one) == [
            "a.b.example. IN A", "x.v6.example. IN AAAA", "a.b.test. IN AAAA", "a.b.example. CH AAAA"
        ]  # fmt: skip


def test_a_family_that_the_root_has_not_got() -> None:
    name = ".".join(["a" * 60] * 4) + "."
    with (
        Server(address) as one,
        with_steps(one, FamilyStep(1, "."), FamilyStep(28, name), Forward((0,))) as w,
    ):
        message = w.ask(name, "A").message()
        assert (message.answer, message.authority[0].name.to_text()) == ([], ".")
        (soa,) = w.ask(name, "AAAA").message().authority[0]
        assert soa.rname.to_text() == name, "no room for a person"
        assert asked_for(one) == []


# ------------------------------------------------------------------------ whoami, slow ----


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("192.0.2.7", 4711, 0), ["www.example. 0 IN A 192.0.2.7", "_udp.www.example. 0 IN SRV 0 0 4711 ."]),
        (
            ("2001:db8::7", 53, 1),
            ["www.example. 0 IN AAAA 2001:db8::7", "_tcp.www.example. 0 IN SRV 0 0 53 ."],
        ),
    ],
)
def test_whoami(client: tuple[str, int, int], expected: list[str]) -> None:
    with running({".": block(WhoamiStep())}) as w:
        w.put("www.example.", client=client)
        answer = take_apart(w.take().entry)
        assert (answer.rcode, answer.counts, answer.plugin) == (0, (0, 0, 2), WHOAMI)
        assert [rrset.to_text() for rrset in answer.message().additional] == expected
        assert w.count("stores") == 0
        w.put("x" * 63 + "." + ".".join(["y" * 61] * 3) + ".", client=client)
        assert take_apart(w.take().entry).counts == (0, 0, 1), "the name has no room for a label more"


def test_whoami_without_a_client_fails() -> None:
    with running({".": block(WhoamiStep())}) as w:
        assert w.ask_failing("www.example.") == EDE_OTHER


def test_a_cut_client_is_no_question() -> None:
    with running({".": block(WhoamiStep())}) as w:
        octets = bytearray(48)
        octets[32:36] = bytes([0, 0, 0, 0])
        octets[28], octets[29] = 1, 4  # qname_len, flags
        w.side[0].put_raw(bytes(octets))
        w.wait(lambda: w.count("questions_invalid") == 1, "an invalid record")


def test_no_step_takes_it() -> None:
    with running({".": block(NameStep("exact", "a.", "b."))}) as w:
        assert w.ask_failing("a.") == EDE_NO_REACHABLE_AUTHORITY
