# SPDX-License-Identifier: Apache-2.0
"""parse_query: what is accepted, refused and dropped, and what is read."""

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import wire
from tests.wiretools import header, labels, octets_of, opt, option, question, record, wire_names

DROP_SHORT, DROP_RESPONSE, OK, FORMERR, NOTIMP, REFUSED, BADVERS = -1, -2, 0, 1, 4, 5, 16
EDNS_PRESENT, EDNS_DO = 1, 2
KEY_DO, KEY_CD = 1, 2
NAME = labels(b"www", b"example", b"com")
TSIG = record(labels(b"key"), 250, bytes(30), ttl=0, rdclass=255)


class TestAccepted:
    def test_plain(self) -> None:
        q = wire.parse(header() + question(NAME, 28))
        assert (q.rc, q.id, q.flags, q.qtype, q.qclass) == (OK, b"\x12\x34", 0x0100, 28, 1)
        assert (q.qname, q.udp_size, q.edns, q.key_flags) == (NAME, 512, 0, 0)

    def test_root(self) -> None:
        q = wire.parse(header() + question(b"\0", 2))
        assert (q.rc, q.qname_len, q.qname) == (OK, 1, b"\0")

    def test_name_is_lowered_and_hash_follows(self) -> None:
        upper = wire.parse(header() + question(NAME.upper()))
        assert upper.qname == NAME
        assert upper.key_hash == wire.parse(header() + question(NAME)).key_hash
        assert upper.key_hash == wire.name_fold_hash(NAME, wire.key_extra(0, 0, 0, 1, 1))[0]

    def test_group_variant_and_key(self) -> None:
        packet = header() + question(NAME)
        q = wire.parse(packet, group=7, variant=6)
        assert (q.group, q.variant) == (7, 6)
        assert q.key_hash == wire.name_fold_hash(NAME, wire.key_extra(7, 6, 0, 1, 1))[0]
        assert q.key_hash != wire.parse(packet).key_hash
        assert q.key_hash != wire.parse(packet, key=b"k" * 16, group=7, variant=6).key_hash

    @pytest.mark.parametrize("flags", [0x0000, 0x0100, 0x0140, 0x0120, 0x0110, 0x0600, 0x000F])
    def test_flags_that_mean_nothing_in_a_query_are_ignored(self, flags: int) -> None:
        q = wire.parse(header(flags=flags) + question(NAME))
        assert (q.rc, q.flags) == (OK, flags)
        assert q.key_flags == (KEY_CD if flags & dns.flags.CD else 0)

    @pytest.mark.parametrize(
        ("size", "counts"), [(0, 512), (511, 512), (512, 512), (513, 513), (65535, 65535)]
    )
    def test_udp_size(self, size: int, counts: int) -> None:
        q = wire.parse(header(ar=1) + question(NAME) + opt(size))
        assert (q.rc, q.udp_size, q.edns) == (OK, counts, EDNS_PRESENT)

    def test_do_and_cd_are_part_of_the_key(self) -> None:
        hashes = set()
        for flags in (0x0100, 0x0110):
            for do in (0, 0x8000):
                q = wire.parse(header(flags=flags, ar=1) + question(NAME) + opt(flags=do))
                assert q.key_flags == (KEY_CD if flags & 0x10 else 0) | (KEY_DO if do else 0)
                assert q.edns == EDNS_PRESENT | (EDNS_DO if do else 0)
                hashes.add(q.key_hash)
        assert len(hashes) == 4

    def test_unassigned_edns_flags_are_ignored(self) -> None:
        assert wire.parse(header(ar=1) + question(NAME) + opt(flags=0x7FFF)).key_flags == 0

    @pytest.mark.parametrize(
        "options",
        [
            b"",
            option(10, bytes(8)),  # cookie
            option(10, bytes(8)) + option(12, bytes(100)) + option(65001, b""),
            option(8, b"\0\1\x18\0\xc0\0\2"),  # client subnet
            option(0, b"") * 500,
        ],
    )
    def test_options_are_passed_over(self, options: bytes) -> None:
        q = wire.parse(header(ar=1) + question(NAME) + opt(4096, options=options))
        assert (q.rc, q.udp_size) == (OK, 4096)

    @pytest.mark.parametrize("records", [[opt(), TSIG], [TSIG, opt()], [TSIG], [TSIG, TSIG]])
    def test_other_additional_records_are_passed_over(self, records: list[bytes]) -> None:
        q = wire.parse(header(ar=len(records)) + question(NAME) + b"".join(records))
        assert (q.rc, q.edns) == (OK, EDNS_PRESENT if opt() in records else 0)

    def test_additional_owner_may_be_a_pointer(self) -> None:
        packet = header(ar=2) + question(NAME) + record(b"\xc0\x0c", 250, b"", rdclass=255) + opt()
        assert wire.parse(packet).rc == OK

    @pytest.mark.parametrize("qtype", [0, 1, 46, 64, 65, 128, 248, 255, 256, 65280, 65535])
    @pytest.mark.parametrize("qclass", [0, 1, 3, 4, 253, 256, 65535])
    def test_types_and_classes_pass(self, qtype: int, qclass: int) -> None:
        q = wire.parse(header() + question(NAME, qtype, qclass))
        assert (q.rc, q.qtype, q.qclass) == (OK, qtype, qclass)


class TestRefused:
    @pytest.mark.parametrize("n", range(12))
    def test_short(self, n: int) -> None:
        assert wire.parse(header()[:n]).rc == DROP_SHORT

    @pytest.mark.parametrize("flags", [0x8000, 0x8180, 0xA800, 0xFFFF])
    def test_response(self, flags: int) -> None:
        assert wire.parse(header(flags=flags) + question(NAME)).rc == DROP_RESPONSE

    @pytest.mark.parametrize("opcode", range(1, 16))
    def test_opcode(self, opcode: int) -> None:
        q = wire.parse(header(flags=opcode << 11) + question(NAME))
        assert (q.rc, q.qname_len, q.id) == (NOTIMP, 0, b"\x12\x34")

    @pytest.mark.parametrize(
        "counts", [(0, 0, 0), (2, 0, 0), (257, 0, 0), (65535, 0, 0), (1, 1, 0), (1, 0, 1), (1, 256, 0)]
    )
    def test_counts(self, counts: tuple[int, int, int]) -> None:
        q = wire.parse(header(qd=counts[0], an=counts[1], ns=counts[2]) + question(NAME))
        assert (q.rc, q.qname_len) == (FORMERR, 0)

    def test_question_cut_off(self) -> None:
        packet = header() + question(NAME)
        for n in range(12, len(packet)):
            q = wire.parse(packet[:n])
            assert (q.rc, q.qname_len) == (FORMERR, 0), n

    def test_pointer_in_the_question(self) -> None:
        assert wire.parse(header() + question(b"\3www\xc0\x0c")).rc == FORMERR
        assert wire.parse(header() + question(b"\xc0\x0c")).rc == FORMERR

    @pytest.mark.parametrize("tail", [b"\0", bytes(10), opt()])
    def test_trailing_octets(self, tail: bytes) -> None:
        q = wire.parse(header() + question(NAME) + tail)
        assert (q.rc, q.qname_len, q.qtype) == (FORMERR, len(NAME), 1)
        assert wire.parse(header(ar=1) + question(NAME) + opt() + tail).rc == FORMERR

    def test_additional_cut_off(self) -> None:
        packet = header(ar=2) + question(NAME) + opt(options=option(10, bytes(8))) + TSIG
        for n in range(12 + len(NAME) + 4, len(packet)):
            q = wire.parse(packet[:n])
            assert (q.rc, q.qname_len) == (FORMERR, len(NAME)), n

    @pytest.mark.parametrize("arcount", [0, 2, 3, 255, 256, 65535])
    def test_arcount_lies(self, arcount: int) -> None:
        assert wire.parse(header(ar=arcount) + question(NAME) + opt()).rc == FORMERR

    def test_three_additional_records(self) -> None:
        assert wire.parse(header(ar=3) + question(NAME) + opt() + TSIG + TSIG).rc == FORMERR

    def test_two_opts(self) -> None:
        q = wire.parse(header(ar=2) + question(NAME) + opt() + opt())
        assert (q.rc, q.edns) == (FORMERR, EDNS_PRESENT)

    @pytest.mark.parametrize("owner", [b"\1a\0", b"\xc0\x0c", b"\xc0\x1c"])
    def test_opt_owner(self, owner: bytes) -> None:
        # 0x1c is the question's root label: a pointer to it is not the root "MUST be 0".
        assert wire.parse(header(ar=1) + question(NAME) + owner + opt()[1:]).rc == FORMERR

    @pytest.mark.parametrize(
        "options",
        [b"\0", b"\0\x0a\0", b"\0\x0a\0\1", b"\0\x0a\xff\xff" + bytes(9), option(10, b"12") + b"\0"],
    )
    def test_option_lengths(self, options: bytes) -> None:
        q = wire.parse(header(ar=1) + question(NAME) + opt(options=options))
        assert (q.rc, q.edns, q.qname_len) == (FORMERR, EDNS_PRESENT, len(NAME))

    @pytest.mark.parametrize("version", [1, 2, 255])
    def test_version(self, version: int) -> None:
        q = wire.parse(header(ar=1) + question(NAME) + opt(flags=0x8000, version=version, options=b"odd"))
        assert (q.rc, q.edns, q.qname_len, q.udp_size) == (BADVERS, EDNS_PRESENT, len(NAME), 512)

    @pytest.mark.parametrize(("qtype", "rc"), [(41, FORMERR)] + [(t, REFUSED) for t in range(249, 255)])
    def test_qtype(self, qtype: int, rc: int) -> None:
        q = wire.parse(header() + question(NAME, qtype))
        assert (q.rc, q.qname_len, q.qtype) == (rc, len(NAME), qtype)

    @pytest.mark.parametrize("qclass", [254, 255])
    def test_qclass(self, qclass: int) -> None:
        assert wire.parse(header() + question(NAME, 1, qclass)).rc == REFUSED


class TestProperties:
    @given(
        wire_names,
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.booleans(),
        st.one_of(st.none(), st.tuples(st.integers(0, 65535), st.booleans(), st.binary(max_size=40))),
    )
    def test_reads_what_dnspython_writes(
        self, name: bytes, qtype: int, message_id: int, cd: bool, edns: tuple[int, bool, bytes] | None
    ) -> None:
        query = dns.message.QueryMessage(id=message_id)
        query.flags = dns.flags.RD | (dns.flags.CD if cd else 0)
        asked = dns.rrset.RRset(
            dns.name.from_wire(name, 0)[0], dns.rdataclass.IN, dns.rdatatype.RdataType(qtype)
        )
        query.question.append(asked)
        if edns is not None:
            size, do, data = edns
            query.use_edns(
                0, dns.flags.DO if do else 0, size, options=[dns.edns.GenericOption("65001", data)]
            )
        q = wire.parse(query.to_wire())
        assert q.rc == (FORMERR if qtype == 41 else REFUSED if 249 <= qtype <= 254 else OK)
        assert (q.id, q.qtype, q.qclass, q.qname_len) == (message_id.to_bytes(2, "big"), qtype, 1, len(name))
        if q.rc == OK:
            assert q.qname == name.lower()
        assert q.udp_size == (512 if edns is None else max(512, edns[0]))
        assert bool(q.edns & EDNS_DO) == bool(q.key_flags & KEY_DO) == (edns is not None and edns[1])

    @given(st.binary(max_size=120))
    def test_any_octets(self, tail: bytes) -> None:
        q = wire.parse(tail)
        assert q.rc in (DROP_SHORT, DROP_RESPONSE, OK, FORMERR, NOTIMP, REFUSED, BADVERS)

    @given(st.data())
    def test_mutations_are_judged_as_dnspython_does_or_stricter(self, data: st.DataObject) -> None:
        packet = bytearray(
            header(ar=2)
            + question(NAME)
            + opt(flags=0x8000, options=option(10, bytes(8)) + option(12, b"xyz"))
            + TSIG
        )
        for _ in range(data.draw(st.integers(1, 4))):
            packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
        q = wire.parse(bytes(packet))
        if q.rc != OK:
            return
        message = dns.message.from_wire(bytes(packet), keyring=False, continue_on_error=True)
        assert message.opcode() == dns.opcode.QUERY
        assert len(message.question) == 1
        assert octets_of(message.question[0].name).lower() == q.qname
        assert (message.question[0].rdtype, message.question[0].rdclass) == (q.qtype, q.qclass)
