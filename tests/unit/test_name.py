# SPDX-License-Identifier: Apache-2.0
"""Names: length, folding, hash, equality, compression pointers."""

import ast
import struct
import subprocess
import sys

import dns.exception
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import wire
from tests.wiretools import labels, octets_of, siphash, siphash_words, wire_names

KEY = bytes(range(16))
LONGEST = labels(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61)  # 255 octets


class TestLength:
    def test_root(self) -> None:
        assert wire.name_length(b"\0") == 1

    def test_what_follows_the_name_is_not_its_business(self) -> None:
        assert wire.name_length(labels(b"www", b"example") + b"\xff\xff") == 13

    def test_longest(self) -> None:
        assert len(LONGEST) == 255
        assert wire.name_length(LONGEST) == 255
        assert wire.name_length(LONGEST + b"\0\0") == 255

    def test_one_octet_too_long(self) -> None:
        assert wire.name_length(labels(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 62)) == 0

    def test_most_labels(self) -> None:
        assert wire.name_length(b"\1a" * 127 + b"\0") == 255
        assert wire.name_length(b"\1a" * 128 + b"\0") == 0

    @pytest.mark.parametrize("octet", [0x40, 0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xFF])
    def test_other_label_types(self, octet: int) -> None:
        assert wire.name_length(bytes([octet]) + b"a" * 254) == 0
        assert wire.name_length(b"\3www" + bytes([octet, 12]) + bytes(250)) == 0

    def test_label_of_63_and_of_64(self) -> None:
        assert wire.name_length(bytes([63]) + b"a" * 63 + b"\0") == 65
        assert wire.name_length(bytes([64]) + b"a" * 64 + b"\0") == 0

    @given(wire_names)
    def test_every_truncation_is_malformed(self, name: bytes) -> None:
        assert wire.name_length(name) == len(name)
        for n in range(len(name)):
            assert wire.name_length(name[:n]) == 0

    @given(st.binary(max_size=300))
    def test_agrees_with_dnspython(self, data: bytes) -> None:
        try:
            _, used = dns.name.from_wire(data, 0)
            expected = used if not any(data[i] >= 0xC0 for i in label_positions(data, used)) else 0
        except Exception:
            expected = 0
        assert wire.name_length(data) == expected


def label_positions(data: bytes, used: int) -> list[int]:
    positions, pos = [], 0
    while pos < used:
        positions.append(pos)
        pos += data[pos] + 1 if data[pos] < 0xC0 else 2
    return positions


class TestFold:
    def test_every_octet(self) -> None:
        for i in range(0, 256, 8):
            word = bytes(range(i, i + 8))
            folded = wire.lower_word(int.from_bytes(word, "little")).to_bytes(8, "little")
            assert folded == word.lower()

    @given(st.binary(min_size=8, max_size=8))
    def test_any_word(self, word: bytes) -> None:
        folded = wire.lower_word(int.from_bytes(word, "little")).to_bytes(8, "little")
        assert folded == word.lower()

    @given(wire_names)
    def test_written_lower_and_zero_padded(self, name: bytes) -> None:
        _, out = wire.name_fold_hash(name)
        assert out == name.lower() + bytes(-len(name) % 8)

    def test_length_octets_are_left_alone(self) -> None:
        # A label's length is below 'A', so folding whole words can't change it.
        name = labels(b"A" * 63)
        assert wire.name_fold_hash(name)[1][: len(name)] == labels(b"a" * 63)


class TestHash:
    def test_the_papers_vector_for_2_4_in_the_oracle(self) -> None:
        # The only published vectors are for SipHash-2-4: they check the oracle's shape.
        assert siphash(bytes(range(15)), KEY, 2, 4) == 0xA129CA6149BE45E5

    def test_the_interpreters_own_siphash_1_3(self) -> None:
        # hash(bytes) is SipHash-1-3, with a key of zeros when the seed is 0.
        assert sys.hash_info.algorithm == "siphash13"
        texts = [bytes(range(1, n + 1)) for n in range(1, 40)]
        script = f"print([hash(text) & (1 << 64) - 1 for text in {texts!r}])"
        run = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert [wire.siphash(text, bytes(16)) for text in texts] == ast.literal_eval(run.stdout)

    @given(st.binary(max_size=100), st.binary(min_size=16, max_size=16))
    def test_siphash(self, data: bytes, key: bytes) -> None:
        assert wire.siphash(data, key) == siphash(data, key)

    @given(wire_names, st.integers(0, (1 << 64) - 1), st.binary(min_size=16, max_size=16))
    def test_name_hash(self, name: bytes, extra: int, key: bytes) -> None:
        padded = name.lower() + bytes(-len(name) % 8)
        words = [word for (word,) in struct.iter_unpack("<Q", padded)]
        assert wire.name_fold_hash(name, extra, key)[0] == siphash_words(
            [*words, extra, len(name) << 56], key
        )

    @given(wire_names, st.integers(0, (1 << 64) - 1))
    def test_case_does_not_matter(self, name: bytes, extra: int) -> None:
        assert wire.name_fold_hash(name.lower(), extra) == wire.name_fold_hash(name.upper(), extra)

    def test_each_part_of_the_key_matters(self) -> None:
        name = labels(b"www", b"example", b"com")
        base = (1, 0, 0, 1, 1)
        others = [
            (2, 0, 0, 1, 1),
            (1, 4, 0, 1, 1),
            (1, 0, 1, 1, 1),
            (1, 0, 2, 1, 1),
            (1, 0, 0, 28, 1),
            (1, 0, 0, 1, 3),
        ]
        values = {wire.name_fold_hash(name, wire.key_extra(*parts))[0] for parts in [base, *others]}
        assert len(values) == len(others) + 1

    def test_fields_do_not_overlap(self) -> None:
        assert wire.key_extra(0xFFFF, 0, 0, 0, 0) == 0xFFFF << 48
        assert wire.key_extra(0, 0xFF, 0, 0, 0) == 0xFF << 40
        assert wire.key_extra(0, 0, 0xFF, 0, 0) == 0xFF << 32
        assert wire.key_extra(0, 0, 0, 0xFFFF, 0) == 0xFFFF << 16
        assert wire.key_extra(0, 0, 0, 0, 0xFFFF) == 0xFFFF

    def test_the_hash_key_matters(self) -> None:
        name = labels(b"www")
        assert wire.name_fold_hash(name, 0, KEY)[0] != wire.name_fold_hash(name, 0, bytes(16))[0]


class TestSame:
    @given(wire_names)
    def test_same_but_for_case(self, name: bytes) -> None:
        assert wire.name_same(name.lower(), name.upper())

    @given(wire_names, st.data())
    def test_one_bit_differs(self, name: bytes, data: st.DataObject) -> None:
        i = data.draw(st.integers(0, len(name) - 1))
        bit = data.draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
        other = name[:i] + bytes([name[i] ^ bit]) + name[i + 1 :]
        assert wire.name_same(name, other) == (name.lower() == other.lower())


def at(prefix: bytes, name: bytes) -> tuple[bytes, int]:
    """A message whose name begins after a header and `prefix`."""
    return bytes(12) + prefix + name, 12 + len(prefix)


class TestCompressed:
    def test_plain(self) -> None:
        msg, pos = at(b"", labels(b"www", b"example"))
        assert wire.name_skip(msg, pos) == (13, 13)
        assert wire.name_expand(msg, pos) == labels(b"www", b"example")

    def test_pointer(self) -> None:
        msg, pos = at(labels(b"example"), b"\3www\xc0\x0c")
        assert wire.name_skip(msg, pos) == (6, 13)
        assert wire.name_expand(msg, pos) == labels(b"www", b"example")

    def test_chain_of_pointers(self) -> None:
        msg, pos = at(labels(b"c") + b"\1b\xc0\x0c" + b"\1a\xc0\x0f", b"\xc0\x13")
        assert wire.name_skip(msg, pos) == (2, 7)
        assert wire.name_expand(msg, pos) == labels(b"a", b"b", b"c")

    def test_pointer_to_the_root(self) -> None:
        msg, pos = at(b"\0", b"\xc0\x0c")
        assert wire.name_skip(msg, pos) == (2, 1)
        assert wire.name_expand(msg, pos) == b"\0"

    @pytest.mark.parametrize(
        ("prefix", "name"),
        [
            (b"", b"\xc0\x0c"),  # to itself
            (b"", b"\1a\xc0\x0c"),  # to its own first label: a loop that grows
            (b"", b"\1a\xc0\x0e"),  # to itself, after a label
            (b"", b"\xc0\x0e\0"),  # forward
            (b"\1a\2", b"\xc0\x0c\0"),  # to labels that run into the pointer
            (b"\xc0\x0e", b"\xc0\x0c"),  # two that point at each other
            (b"", b"\xc0\x00"),  # into the header
            (b"", b"\xc0\x0b"),
            (b"", b"\xc0"),  # half a pointer
            (b"", b"\3ww"),
            (b"", b"\3www"),
            (b"", b"\x40"),
            (b"", b"\x80\0"),
            (b"\1a" * 100 + b"\0", b"\1b" * 30 + b"\xc0\x0c"),  # 261 octets in all
        ],
    )
    def test_malformed(self, prefix: bytes, name: bytes) -> None:
        msg, pos = at(prefix, name)
        assert wire.name_skip(msg, pos)[0] == 0

    def test_longest_over_a_pointer(self) -> None:
        msg, pos = at(LONGEST[64:], LONGEST[:64] + b"\xc0\x0c")
        assert wire.name_skip(msg, pos) == (66, 255)
        assert wire.name_expand(msg, pos) == LONGEST
        msg, pos = at(LONGEST[64:], b"\1x" + LONGEST[:64] + b"\xc0\x0c")
        assert wire.name_skip(msg, pos)[0] == 0

    @pytest.mark.parametrize(("jumps", "good"), [(1, True), (127, True), (128, False), (4000, False)])
    def test_pointers_to_pointers(self, jumps: int, good: bool) -> None:
        # The root at 12, a pointer to it at 13, and each further one aims at the one before.
        chain = b"".join(struct.pack("!H", 0xC000 | max(12, 11 + 2 * i)) for i in range(jumps))
        msg, _ = at(b"\0", chain)
        in_place, full = wire.name_skip(msg, len(msg) - 2)
        assert (in_place, full) == (2, 1) if good else in_place == 0

    def test_past_the_end(self) -> None:
        assert wire.name_skip(bytes(12), 12)[0] == 0
        assert wire.name_skip(bytes(12), 4000)[0] == 0

    @given(st.binary(min_size=13, max_size=80), st.integers(12, 79))
    def test_hostile(self, msg: bytes, pos: int) -> None:
        in_place, full = wire.name_skip(msg, pos)
        if in_place == 0:
            return
        assert 1 <= full <= 255
        assert pos + in_place <= len(msg)
        expected, used = dns.name.from_wire(msg, pos)
        assert wire.name_expand(msg, pos) == octets_of(expected)
        assert (used, len(octets_of(expected))) == (in_place, full)

    @given(st.binary(min_size=13, max_size=80), st.integers(12, 79))
    def test_stricter_than_dnspython_only_in_where_pointers_aim(self, msg: bytes, pos: int) -> None:
        try:
            dns.name.from_wire(msg, pos)
        except dns.exception.DNSException:
            assert wire.name_skip(msg, pos)[0] == 0
            return
        if wire.name_skip(msg, pos)[0] == 0:
            # dnspython follows a pointer into the header, or to labels that run into the pointer.
            assert not prior_occurrences(msg, pos)


def prior_occurrences(msg: bytes, pos: int) -> bool:
    """Whether every part that a pointer leads to begins after the header and ends below the part before."""
    part, limit = pos, len(msg)
    while msg[pos] != 0:
        if msg[pos] < 0xC0:
            pos += msg[pos] + 1
            if pos >= limit:
                return False
            continue
        target = (msg[pos] & 0x3F) << 8 | msg[pos + 1]
        if pos + 2 > limit or target < 12:
            return False
        part, limit, pos = target, part, target
    return True
