# SPDX-License-Identifier: Apache-2.0
"""What the scripted upstreams of the differential suite say to which question."""

from tests.diff.upstream import SILENT, Row, Says, says, soa

ZONE = "example.test."
_RRSIG = "A 13 3 300 {until} 20200101000000 12345 example.test. MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4"
VALID_RRSIG = _RRSIG.format(until="20380101000000")
EXPIRED_RRSIG = _RRSIG.format(until="20210101000000")


def _many(count: int) -> tuple[str, ...]:
    return tuple(f"@ 300 A 10.9.{number // 250}.{number % 250 + 1}" for number in range(count))


def _texts(count: int) -> tuple[str, ...]:
    return tuple(f'@ 300 TXT "{number:03d} {"x" * 196}"' for number in range(count))


#: Rows in the zone example.test, by name before the zone and type.
_EXAMPLE: dict[str, Row] = {
    # plain records
    "www A": says("@ 300 A 192.0.2.1"),
    "www AAAA": says("@ 300 AAAA 2001:db8::1"),
    "two A": says("@ 300 A 192.0.2.1", "@ 300 A 192.0.2.2"),
    "four A": says(*(f"@ 300 A 192.0.2.{n}" for n in range(1, 5))),
    "four AAAA": says(*(f"@ 300 AAAA 2001:db8::{n}" for n in range(1, 5))),
    "mail MX": says("@ 300 MX 10 mx1.example.test.", "@ 300 MX 20 mx2.example.test.", "@ 300 MX 30 mx3.example.test."),
    "_http._tcp SRV": says("@ 300 SRV 0 5 80 www.example.test.", "@ 300 SRV 0 5 80 two.example.test.",
                           additional=("www.example.test. 300 A 192.0.2.1",)),
    "text TXT": says('@ 300 TXT "one" "two"'),
    "caa CAA": says('@ 300 CAA 0 issue "ca.example.test"'),
    "svc HTTPS": says("@ 300 HTTPS 1 . alpn=h2"),
    "odd TYPE65280": says("@ 300 TYPE65280 \\# 4 01020304"),
    "any ANY": says("@ 300 A 192.0.2.1", '@ 300 TXT "any"'),
    "aa A": says("@ 300 A 192.0.2.1", flags="aa ra"),
    "no-ra A": says("@ 300 A 192.0.2.1", flags=""),
    "glue A": says("@ 300 A 192.0.2.1", authority=("example.test. 300 NS ns.example.test.",),
                   additional=("ns.example.test. 300 A 192.0.2.53",)),
    "class A": says("@ 300 A 192.0.2.1"),
    "class TXT": says('@ 300 TXT "class"'),
    # each answer another one, so that a stored one is seen to be stored
    "count A": says("@ 300 A 192.0.2.{n}"),
    "count-a A": says("@ 300 A 192.0.2.{n}"),
    "count-b A": says("@ 300 A 192.0.2.{n}"),
    "count-c A": says("@ 300 A 192.0.2.{n}"),
    "ttl0 A": says("@ 0 A 192.0.2.{n}"),
    "ttl1 A": says("@ 1 A 192.0.2.{n}"),
    "ttl2 A": says("@ 2 A 192.0.2.{n}"),
    "ttl3 A": says("@ 3 A 192.0.2.{n}"),
    "ttl7 A": says("@ 7 A 192.0.2.{n}"),
    "ttl20 A": says("@ 20 A 192.0.2.{n}"),
    "ttl7200 A": says("@ 7200 A 192.0.2.{n}"),
    "ttl-high A": says("@ 2147483648 A 192.0.2.{n}"),
    "mixed A": says("@ 100 CNAME www.example.test.", "www.example.test. 20 A 192.0.2.1",
                    authority=("example.test. 10 NS ns.example.test.",)),
    "low-additional A": says("@ 300 A 192.0.2.1", additional=("ns.example.test. 7 A 192.0.2.53",)),
    # negative answers
    "nx A": says(rcode="NXDOMAIN", authority=(soa(ZONE),)),
    "nx-long A": says(rcode="NXDOMAIN", authority=(soa(ZONE, 7200, 7200),)),
    "nx-short A": says(rcode="NXDOMAIN", authority=(soa(ZONE, 2, 2),)),
    "nx-minimum A": says(rcode="NXDOMAIN", authority=(soa(ZONE, 300, 20),)),
    "nodata-minimum A": says(authority=(soa(ZONE, 300, 20),)),
    "nx-cname A": says("@ 100 CNAME gone.example.test.", rcode="NXDOMAIN", authority=(soa(ZONE),)),
    "nx-no-soa A": says(rcode="NXDOMAIN"),
    "nx-no-soa-cname A": says("@ 170 CNAME gone.example.test.", rcode="NXDOMAIN"),
    "nodata-no-soa A": says(),
    "nodata-cname A": says("@ 100 CNAME bare.example.test.", authority=(soa(ZONE),)),
    "referral A": says(authority=("example.test. 300 NS ns.example.test.",),
                       additional=("ns.example.test. 300 A 192.0.2.53",)),
    "only-additional A": says(additional=("ns.example.test. 300 A 192.0.2.53",)),
    # failures; the second time all is well
    "servfail A": (says(rcode="SERVFAIL"), says("@ 300 A 192.0.2.{n}")),
    "servfail-b A": (says(rcode="SERVFAIL"), says("@ 300 A 192.0.2.{n}")),
    "servfail-soa A": (says(rcode="SERVFAIL", authority=(soa(ZONE),)), says("@ 300 A 192.0.2.{n}")),
    "always-servfail A": says(rcode="SERVFAIL"),
    "notimp A": (says(rcode="NOTIMP"), says("@ 300 A 192.0.2.{n}")),
    "refused A": (says(rcode="REFUSED"), says("@ 300 A 192.0.2.{n}")),
    "always-refused A": says(rcode="REFUSED"),
    "formerr A": (says(rcode="FORMERR"), says("@ 300 A 192.0.2.{n}")),
    "yxdomain A": (says(rcode="YXDOMAIN"), says("@ 300 A 192.0.2.{n}")),
    "refused-cname A": (says("@ 170 CNAME www.example.test.", rcode="REFUSED"), says("@ 300 A 192.0.2.{n}")),
    "broken A": (says("@ 2 A 192.0.2.1"), says(rcode="SERVFAIL")),
    "broken-b A": (says("@ 2 A 192.0.2.1"), says(rcode="SERVFAIL")),
    "broken-silent A": (says("@ 2 A 192.0.2.1"), SILENT),
    "changed A": (says("@ 2 A 192.0.2.1"), says("@ 300 A 192.0.2.2")),
    "vanished A": (says("@ 2 A 192.0.2.1"), says(rcode="NXDOMAIN", authority=(soa(ZONE),))),
    # truncation and size
    "tc A": says(*_many(40), udp="tc"),
    "tc-part A": says(*_many(40), udp="tc-part"),
    "many20 A": says(*_many(20)),
    "many28 A": says(*_many(28)),
    "many29 A": says(*_many(29)),
    "many60 A": says(*_many(60)),
    "many90 A": says(*_many(90)),
    "many400 A": says(*_many(400)),
    "texts4 TXT": says(*_texts(4)),
    "texts10 TXT": says(*_texts(10)),
    "texts25 TXT": says(*_texts(25)),
    "texts100 TXT": says(*_texts(100)),
    "long-additional SRV": says("@ 300 SRV 0 5 80 www.example.test.",
                                additional=tuple(f"a{n}.example.test. 300 A 192.0.2.{n}" for n in range(1, 31))),
    # wrong, late or no responses
    "silent A": SILENT,
    "silent-once A": (SILENT, says("@ 300 A 192.0.2.{n}")),
    "slow A": says("@ 300 A 192.0.2.{n}", delay_s=0.3),
    "other-id A": Says(answer=("@ 300 A 192.0.2.66",), wire="other-id"),
    "other-question A": Says(wire="other-question"),
    "other-type A": Says(answer=("@ 300 A 192.0.2.66",), wire="other-type"),
    "no-qr A": Says(answer=("@ 300 A 192.0.2.66",), wire="no-qr"),
    "no-question A": Says(answer=("@ 300 A 192.0.2.66",), wire="no-question"),
    "garbage A": Says(wire="garbage"),
    # aliases
    "alias A": says("@ 300 CNAME www.example.test.", "www.example.test. 300 A 192.0.2.1"),
    "alias CNAME": says("@ 300 CNAME www.example.test."),
    "chain A": says("@ 300 CNAME c1.example.test.", "c1.example.test. 200 CNAME c2.example.test.",
                    "c2.example.test. 100 A 192.0.2.1", "c2.example.test. 100 A 192.0.2.2"),
    "dangling A": says("@ 300 CNAME elsewhere.test."),
    # EDNS, DNSSEC
    "echo TXT": says("echo"),
    "echo-ad TXT": says("echo"),
    "signed A": says("@ 300 A 192.0.2.1", signed=(f"@ 300 RRSIG {VALID_RRSIG}",), flags="ra ad"),
    "expired A": says("@ 300 A 192.0.2.{n}", signed=(f"@ 300 RRSIG {EXPIRED_RRSIG}",), flags="ra ad"),
    "ad A": says("@ 300 A 192.0.2.1", flags="ra ad"),
    "no-opt A": says("@ 300 A 192.0.2.1", opt=False),
    "options A": says("@ 300 A 192.0.2.1", options=((3, b"ns1"), (15, b"\0\x12filtered"))),
    "sub DS": says("@ 300 DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    # for dns64
    "v4only A": says("@ 300 A 192.0.2.1", "@ 300 A 192.0.2.2"),
    "v4only AAAA": says(authority=(soa(ZONE, 200, 200),)),
    "v4short A": says("@ 20 A 192.0.2.1"),
    "v4alias A": says("@ 300 CNAME v4only.example.test.", "v4only.example.test. 300 A 192.0.2.1"),
    "v4alias AAAA": says("@ 300 CNAME v4only.example.test.", authority=(soa(ZONE),)),
    "v4servfail A": says("@ 300 A 192.0.2.1"),
    "v4servfail AAAA": says(rcode="SERVFAIL"),
    "dual A": says("@ 300 A 192.0.2.1"),
    "dual AAAA": says("@ 300 AAAA 2001:db8::1"),
}  # fmt: skip

#: Rows by whole name: other zones, reverse names.
_ELSEWHERE: dict[str, Row] = {
    "example.test. SOA": says(soa(ZONE)),
    "example.test. NS": says("@ 300 NS ns.example.test."),
    "example.test. DS": says(authority=(soa("test."),)),
    "1.2.0.192.in-addr.arpa. PTR": says("@ 300 PTR www.example.test."),
    "1.4.0.10.in-addr.arpa. PTR": says("@ 300 PTR ten-four.example.test."),
    "1.7.0.10.in-addr.arpa. PTR": says("@ 300 PTR ten-seven.example.test."),
    "1.8.0.10.in-addr.arpa. PTR": says("@ 300 PTR ten-eight.example.test."),
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR": says("@ 300 PTR www.example.test."),
    "www.elsewhere.test. A": says("@ 300 A 198.51.100.1"),
    "nginx.default.svc.cluster.local. A": says("@ 5 A 10.43.0.7", flags="aa ra"),
    "web.default.svc.cluster.local. A": says("@ 30 A 10.43.0.{n}", flags="aa ra"),
}  # fmt: skip

RECORDS: dict[str, Row] = {
    **{key.replace(" ", f".{ZONE} ", 1): row for key, row in _EXAMPLE.items()},
    **_ELSEWHERE,
}
#: A second upstream: other addresses, so that a reply says whom it is from.
RECORDS_2: dict[str, Row] = {
    "www.example.test. A": says("@ 300 A 198.51.100.2"),
    "count.example.test. A": says("@ 300 A 198.51.100.{n}"),
    "echo.example.test. TXT": says("echo"),
    "nx.example.test. A": says("@ 300 A 198.51.100.2"),
    "always-servfail.example.test. A": says("@ 300 A 198.51.100.2"),
    "always-refused.example.test. A": says("@ 300 A 198.51.100.2"),
    "silent.example.test. A": says("@ 300 A 198.51.100.2"),
    "www.elsewhere.test. A": says("@ 300 A 198.51.100.2"),
    "sub.example.test. DS": says("@ 300 DS 54321 13 2 fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"),
}  # fmt: skip
