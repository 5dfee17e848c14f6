# SPDX-License-Identifier: Apache-2.0
"""What becomes of a response: the answer made of it, how long it lives, who may have it."""

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing.flights import verdict
from tests.coordtools import NODATA, NXDOMAIN, POSITIVE, SERVFAIL, Answer, records, take_apart, wire

QNAME = "www.example."
ALONE = 2
COREFILE = {
    "uniform_ttl": 1,
    "ttl_min_s": 5,
    "ttl_max_s": 3600,
    "negative_min_s": 5,
    "negative_max_s": 1800,
}


def response(
    *answer: dns.rrset.RRset,
    qname: str = QNAME,
    qtype: str = "A",
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    soa: tuple[int, int] | None = None,
    ns: int | None = None,
    extra: list[dns.rrset.RRset] | None = None,
    flags: int = 0,
    edns: bool = True,
) -> dns.message.Message:
    message = dns.message.make_response(dns.message.make_query(qname, qtype, use_edns=0 if edns else None))
    message.flags |= dns.flags.RA | flags
    message.set_rcode(rcode)
    message.answer.extend(answer)
    if soa is not None:
        ttl, minimum = soa
        message.authority.append(
            records("example.", ttl, "SOA", f"ns.example. admin.example. 1 2 3 4 {minimum}")
        )
    if ns is not None:
        message.authority.append(records("example.", ns, "NS", "ns.example."))
    message.additional.extend(extra or [])
    return message


def judge(message: dns.message.Message | bytes, flags: int = 1, **settings: int) -> tuple[str, Answer]:
    octets = message if isinstance(message, bytes) else message.to_wire(max_size=65535)
    parsed = dns.message.from_wire(octets)
    question = parsed.question[0]
    name = question.name.canonicalize().to_wire()
    assert name is not None
    rc, entry = verdict(octets, name, question.rdtype, flags, **settings)
    return rc, take_apart(entry)


def a(ttl: int, address: str = "192.0.2.1", name: str = QNAME) -> dns.rrset.RRset:
    return records(name, ttl, "A", address)


# ------------------------------------------------------------------------------ lifetimes ----


@pytest.mark.parametrize(
    ("ttls", "settings", "expected"),
    [
        ([300], {}, [300]),
        ([300, 60], {}, [300, 60]),
        ([2], {"ttl_min_s": 5}, [5]),
        ([0], {"ttl_min_s": 5}, [5]),
        ([100_000], {}, [86400]),
        ([2**31 - 1], {}, [86400]),
        ([2**31 - 1], {"ttl_max_s": 2**31 - 1}, [2**31 - 1]),
        ([300], {"ttl_min_s": 30, "ttl_max_s": 10}, [10]),
        ([300, 60], COREFILE, [60, 60]),
        ([300, 2], COREFILE, [5, 5]),
        ([0], COREFILE, [5]),
        ([100_000], COREFILE, [3600]),
        ([100_000], COREFILE | {"ttl_max_s": 86400}, [3600]),
    ],
)
def test_positive(ttls: list[int], settings: dict[str, int], expected: list[int]) -> None:
    names = [QNAME, "b.example."]
    rc, answer = judge(
        response(*(a(ttl, name=name) for ttl, name in zip(ttls, names, strict=False))), **settings
    )
    assert rc == "store"
    assert (answer.kind, answer.ttls(), answer.ttl_s) == (POSITIVE, expected, min(expected))


def test_a_ttl_with_the_top_bit_counts_as_zero() -> None:
    octets = bytearray(response(a(300), edns=False).to_wire())
    at = octets.index(struct.pack("!I", 300))
    octets[at] |= 0x80
    rc, answer = judge(bytes(octets))
    assert (rc, answer.ttls()) == ("hand on", [0])
    assert judge(bytes(octets), **COREFILE)[1].ttls() == [5]


def test_zero_is_handed_on() -> None:
    rc, answer = judge(response(a(300), a(0, name="b.example.")))
    assert (rc, answer.ttls(), answer.ttl_s) == ("hand on", [300, 0], 0)


@pytest.mark.parametrize(("rcode", "kind"), [(dns.rcode.NXDOMAIN, NXDOMAIN), (dns.rcode.NOERROR, NODATA)])
@pytest.mark.parametrize(
    ("soa", "settings", "expected"),
    [
        ((900, 30), {}, 30),
        ((30, 900), {}, 30),
        ((900, 0), {}, 0),
        ((900, 0), {"negative_min_s": 5}, 5),
        ((86400, 86400), {}, 10800),
        ((900, 2**32 - 1), {}, 0),
        ((900, 30), COREFILE, 30),
        ((2, 900), COREFILE, 5),
        ((7200, 7200), COREFILE, 1800),
    ],
)
def test_negative(
    rcode: dns.rcode.Rcode, kind: int, soa: tuple[int, int], settings: dict[str, int], expected: int
) -> None:
    rc, answer = judge(response(rcode=rcode, soa=soa), **settings)
    assert rc == ("store" if expected else "hand on")
    assert (answer.kind, answer.ttls(), answer.ttl_s) == (kind, [expected], expected)


def test_negative_with_an_alias_lives_no_longer_than_the_alias() -> None:
    alias = records(QNAME, 20, "CNAME", "gone.example.")
    for rcode, kind in ((dns.rcode.NXDOMAIN, NXDOMAIN), (dns.rcode.NOERROR, NODATA)):
        rc, answer = judge(response(alias, rcode=rcode, soa=(900, 600)))
        assert (rc, answer.kind, answer.ttls(), answer.ttl_s) == ("store", kind, [20, 600], 20)
        assert judge(response(alias, rcode=rcode, soa=(900, 600)), **COREFILE)[1].ttls() == [20, 20]


def test_an_soa_in_the_answer_is_no_negative_one() -> None:
    soa = records("example.", 900, "SOA", "ns.example. admin.example. 1 2 3 4 30")
    rc, answer = judge(response(soa, qname="example.", qtype="SOA"))
    assert (rc, answer.kind, answer.ttls()) == ("store", POSITIVE, [900])


# -------------------------------------------------------------------------- what is kept ----


@pytest.mark.parametrize("settings", [{}, COREFILE])
@pytest.mark.parametrize(
    ("rcode", "stored"),
    [
        (dns.rcode.SERVFAIL, True),
        (dns.rcode.NOTIMP, True),
        (dns.rcode.REFUSED, False),
        (dns.rcode.FORMERR, False),
        (dns.rcode.YXDOMAIN, False),
        (dns.rcode.NOTAUTH, False),
        (dns.rcode.BADVERS, False),
        (dns.rcode.BADCOOKIE, False),
    ],
)
def test_failures(rcode: dns.rcode.Rcode, stored: bool, settings: dict[str, int]) -> None:
    rc, answer = judge(response(rcode=rcode), **settings)
    assert (rc, answer.kind, answer.rcode) == ("store" if stored else "hand on", SERVFAIL, rcode)
    assert answer.ttl_s == 5
    assert not answer.msg_flags & dns.flags.AA
    assert judge(response(rcode=rcode), failure_s=0, **settings)[0] == "hand on"
    assert judge(response(rcode=rcode), failure_s=3000, **settings)[1].ttl_s == 300  # RFC 9520 s3.2


@pytest.mark.parametrize(
    "message",
    [
        response(rcode=dns.rcode.NXDOMAIN),
        response(),
        response(ns=300),
        response(extra=[a(300, name="ns.example.")]),
    ],
    ids=["NXDOMAIN", "empty", "referral", "additional"],
)
def test_without_a_word_on_how_long(message: dns.message.Message) -> None:
    assert judge(message)[0] == "hand on"


def test_bare_answers_in_a_block_with_cache() -> None:
    """As CoreDNS: delegations and empty answers for 5 s, NXDOMAIN without SOA not at all."""
    assert judge(response(rcode=dns.rcode.NXDOMAIN), **COREFILE)[0] == "hand on"
    alias = dns.rrset.from_text(QNAME, 170, "IN", "CNAME", "gone.example.")
    rc, answer = judge(response(alias, rcode=dns.rcode.NXDOMAIN), **COREFILE)
    assert (rc, answer.ttls()) == ("hand on", [5])
    for message, ttl in (
        (response(), 5),
        (response(ns=300), 5),
        (response(extra=[a(300, name="x.example.")]), 300),
    ):
        rc, answer = judge(message, **COREFILE)
        assert (rc, answer.kind, answer.ttl_s) == ("store", POSITIVE, ttl)


def test_what_is_never_kept() -> None:
    good = response(a(300))
    assert judge(good)[0] == "store"
    assert judge(good, caching=0)[0] == "hand on"
    assert judge(good, flags=ALONE)[0] == judge(good, flags=ALONE | 1)[0] == "hand on"
    assert judge(response(a(300), flags=dns.flags.TC))[0] == "hand on"


@pytest.mark.parametrize(
    ("qtype", "stored"), [(127, True), (128, False), (249, False), (254, False), (255, True), (256, True)]
)
def test_meta_types(qtype: int, stored: bool) -> None:
    octets = (
        response(a(300), edns=False)
        .to_wire()
        .replace(wire(QNAME) + b"\0\1", wire(QNAME) + struct.pack("!H", qtype), 1)
    )
    assert verdict(octets, wire(QNAME), qtype)[0] == ("store" if stored else "hand on")


def test_stale_time_and_fingerprint_are_the_blocks() -> None:
    _, answer = judge(response(a(300)), stale_s=3600, fingerprint=99, now_ms=123)
    assert (answer.stale_s, answer.fingerprint, answer.stored_ms) == (3600, 99, 123)
    assert judge(response(rcode=dns.rcode.SERVFAIL), stale_s=3600)[1].stale_s == 0


# --------------------------------------------------------------------------------- flags ----


def test_flags_are_kept() -> None:
    every = dns.flags.AA | dns.flags.AD | dns.flags.RD | dns.flags.CD
    _, answer = judge(response(a(300), flags=every))
    assert answer.msg_flags == dns.flags.AA | dns.flags.AD | dns.flags.RA
    _, answer = judge(response(a(300)))
    assert answer.msg_flags == dns.flags.RA


@pytest.mark.parametrize(
    ("rcode", "aa"), [(dns.rcode.NOERROR, True), (dns.rcode.NXDOMAIN, True), (dns.rcode.SERVFAIL, False)]
)
def test_aa_in_a_block_with_cache(rcode: dns.rcode.Rcode, aa: bool) -> None:
    _, answer = judge(response(rcode=rcode, soa=(60, 60)), **COREFILE)
    assert bool(answer.msg_flags & dns.flags.AA) == aa


# ------------------------------------------------------------------------------- records ----


def same(message: dns.message.Message, answer: Answer) -> None:
    """The answer has the message's records, in order, but for OPT."""
    ours = answer.message()
    assert ours.edns == -1
    for section in ("answer", "authority", "additional"):
        assert getattr(ours, section) == getattr(message, section)
    assert len(answer.wire()) <= len(message.to_wire(max_size=65535))


def test_records_as_they_are() -> None:
    message = response(a(300), soa=(60, 60), extra=[a(60, name="ns.example.")])
    _, answer = judge(message)
    same(message, answer)
    assert answer.counts == (1, 1, 1)
    assert answer.plain_len > len(answer.wire())


def test_no_records_at_all() -> None:
    _, answer = judge(response(rcode=dns.rcode.REFUSED))
    assert (answer.records, answer.ttl_off, answer.counts) == (b"", (), (0, 0, 0))


def opt_first(message: dns.message.Message) -> bytes:
    """The same with the OPT moved before the other additional records, which point at each other."""
    assert message.edns < 0
    octets = message.to_wire(max_size=65535)
    parsed = len(message.additional)
    assert parsed == 2
    bare = dns.message.from_wire(octets)
    bare.additional.clear()
    cut = len(bare.to_wire())
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    tail = bytearray(octets[cut:])
    # A pointer from the second additional record into the first: both moved on by the OPT.
    found = [
        i
        for i in range(len(tail) - 1)
        if tail[i] & 0xC0 == 0xC0 and struct.unpack_from("!H", tail, i)[0] & 0x3FFF >= cut
    ]
    assert found
    for i in found:
        struct.pack_into("!H", tail, i, struct.unpack_from("!H", tail, i)[0] + len(opt))
    out = bytearray(octets[:cut] + opt + bytes(tail))
    struct.pack_into("!H", out, 10, 3)
    return bytes(out)


def test_records_behind_an_opt_keep_their_names() -> None:
    extra = [a(60, name="a.other.test."), a(60, "192.0.2.9", name="b.other.test.")]
    message = response(a(300), edns=False, extra=extra)
    moved = opt_first(message)
    assert dns.message.from_wire(moved).edns == 0
    rc, answer = judge(moved)
    assert rc == "store"
    same(message, answer)


def uncompressed(message: dns.message.Message) -> bytes:
    """The message without a single compression pointer, as CoreDNS sends it over TCP."""
    out = message.to_wire(max_size=65535)[:12]
    for question in message.question:
        out += (question.name.to_wire() or b"") + struct.pack("!HH", question.rdtype, question.rdclass)
    for section in (message.answer, message.authority, message.additional):
        for rrset in section:
            for item in rrset:
                rdata = item.to_wire() or b""
                out += (
                    (rrset.name.to_wire() or b"")
                    + struct.pack("!HHIH", rrset.rdtype, 1, rrset.ttl, len(rdata))
                    + rdata
                )
    return out


def test_long_uncompressed_answers_are_compressed() -> None:
    message = response(
        records(QNAME, 60, "A", *(f"10.0.{i // 250}.{i % 250}" for i in range(1000))), edns=False
    )
    plain = uncompressed(message)
    _, answer = judge(plain)
    same(message, answer)
    assert answer.plain_len == len(plain)
    assert len(answer.wire()) == 12 + len(wire(QNAME)) + 4 + 1000 * 16


def test_short_uncompressed_answers_stay() -> None:
    message = response(a(60), a(60, name="b.example."), edns=False)
    plain = uncompressed(message)
    assert judge(plain)[1].wire()[2:] == plain[2:].replace(plain[2:4], judge(plain)[1].wire()[2:4], 1)


def test_the_largest_message() -> None:
    """64 KiB of the shortest records there are."""
    count = (65535 - 12 - 5) // 11
    octets = (
        struct.pack("!6H", 1, 0x8180, 1, count, 0, 0)
        + b"\0\0\1\0\1"
        + (b"\0" + struct.pack("!HHIH", 10, 1, 60, 0)) * count
    )
    rc, entry = verdict(octets, b"\0", 1)
    answer = take_apart(entry)
    assert rc == "store"
    assert (len(answer.ttl_off), len(answer.records)) == (count, count * 11)
    assert set(answer.ttls()) == {60}


LABEL = st.text("abcXYZ019-", min_size=1, max_size=20).filter(lambda s: not s.startswith("-"))
NAME = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join(labels) + ".")
RRSET = st.one_of(
    st.builds(
        lambda n, t, i: records(n, t, "A", f"192.0.2.{i}"),
        NAME,
        st.integers(0, 2**31 - 1),
        st.integers(0, 255),
    ),
    st.builds(lambda n, t, m: records(n, t, "CNAME", m), NAME, st.integers(0, 100), NAME),
    st.builds(lambda n, t, m: records(n, t, "MX", f"10 {m}"), NAME, st.integers(0, 100), NAME),
    st.builds(lambda n, t, m: records(n, t, "SRV", f"1 2 3 {m}"), NAME, st.integers(0, 100), NAME),
    st.builds(
        lambda n, t, x: records(n, t, "TXT", f'"{x}"'),
        NAME,
        st.integers(0, 100),
        st.text("abc", max_size=200),
    ),
)


def unique(rrsets: list[dns.rrset.RRset]) -> list[dns.rrset.RRset]:
    """One RRset a name and type."""
    return list({(rrset.name, rrset.rdtype): rrset for rrset in rrsets}.values())


@given(
    NAME,
    st.lists(RRSET, max_size=8).map(unique),
    st.lists(RRSET, max_size=4).map(unique),
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, COREFILE]),
)
def test_any_answer(
    qname: str,
    answer: list[dns.rrset.RRset],
    extra: list[dns.rrset.RRset],
    edns: bool,
    plain: bool,
    settings: dict[str, int],
) -> None:
    message = response(*answer, qname=qname, extra=extra, edns=edns and not plain)
    octets = uncompressed(message) if plain else message.to_wire(max_size=65535)
    rc, judged = judge(octets, **settings)
    ours = judged.message()
    for section in ("answer", "authority", "additional"):
        assert getattr(ours, section) == getattr(message, section)
    ttls: list[int] = [rrset.ttl for rrset in [*message.answer, *message.additional]]
    if not settings:
        assert judged.ttls() == [min(ttl, 86400) for ttl in ttls]
        assert rc == ("store" if answer and min(ttls) > 0 else "hand on")
    else:
        assert len(set(judged.ttls())) <= 1
        assert rc == "store"
    assert judged.qname == wire(qname.lower())


@given(
    NAME,
    st.lists(RRSET, max_size=6).map(unique),
    st.lists(RRSET, max_size=4).map(unique),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    st.sampled_from([{}, COREFILE]),
)
def test_a_damaged_answer_makes_a_sound_entry_or_none(
    qname: str,
    answer: list[dns.rrset.RRset],
    extra: list[dns.rrset.RRset],
    damage: list[tuple[int, int]],
    settings: dict[str, int],
) -> None:
    octets = bytearray(response(*answer, qname=qname, extra=extra).to_wire(max_size=65535))
    for at, value in damage:
        octets[at % len(octets)] = value
    rc, entry = verdict(bytes(octets), wire(qname.lower()), 1, **settings)
    if rc in ("malformed", "unusable"):
        assert entry == b""
        return
    judged = take_apart(entry)
    assert all(offset + 4 <= len(judged.records) for offset in judged.ttl_off)
    assert len(judged.wire()) <= 65535
    ceiling = 3600 if settings else 86400
    assert all(ttl <= ceiling for ttl in judged.ttls())
    assert judged.ttl_s <= ceiling
    assert judged.qname == wire(qname.lower())
