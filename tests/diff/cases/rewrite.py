# SPDX-License-Identifier: Apache-2.0
"""rewrite (corefile.md 2.3)."""

from tests.diff.pairs import Ask, Case

NAMES = Case(
    "rewrite-names",
    """
. {
    bind {$LISTEN}
    rewrite name exact exact.test www.example.test
    rewrite name bare.test two.example.test
    rewrite name prefix pre. the. answer auto
    rewrite name prefix dash- the- answer auto
    rewrite name suffix .suffix.test .example.test answer auto
    rewrite name suffix .plain-suffix.test .example.test
    rewrite name substring middle.example www.example
    rewrite name substring -part- - answer auto
    rewrite name regex (.*)\\.regex\\.test {1}.example.test answer auto
    rewrite name regex (.*)-(.*)\\.swap\\.test {2}.{1}.test answer name (.*)\\.(.*)\\.test {2}-{1}.swap.test
    rewrite {
        name
        regex
        (.*)\\.block\\.test
        {1}.example.test
        answer
        auto
    }
    rewrite name regex ^(.*)\\.value\\.test\\.$ {1}.example.test answer name ^(.*)\\.example\\.test\\.$ {1}.value.test answer value ^(.*)\\.example\\.test\\.$ {1}.value.test
    forward . {$UP}
}
""",
    (
        Ask("exact", "exact.test", says="192.0.2.1 for=www.example.test/A owner=exact.test."),
        Ask("exact, letters' case", "EXACT.test", says="192.0.2.1 for=www.example.test/A"),
        Ask("exact, not below it", "x.exact.test", says="NXDOMAIN for=x.exact.test/A"),
        Ask("exact, negative", "exact.test", "MX", says="NOERROR for=www.example.test/MX"),
        Ask("no word: exact", "bare.test", says="answers=2 for=two.example.test/A"),
        Ask("prefix", "pre.example.test", says="NXDOMAIN for=the.example.test/A"),
        Ask("prefix, which gets a dot at its end", "dash-x.example.test", says="NXDOMAIN for=dash-x.example.test/A"),
        Ask("suffix", "www.suffix.test", says="192.0.2.1 for=www.example.test/A owner=www.suffix.test."),
        Ask("suffix, an alias", "alias.suffix.test", says="cname 192.0.2.1"),
        Ask("suffix without answer", "www.plain-suffix.test", says="192.0.2.1 owner=www.example.test."),
        Ask("suffix that isn't there", "suffix.test", says="NXDOMAIN for=suffix.test/A"),
        Ask("substring", "a.middle.example.test", says="NXDOMAIN for=a.www.example.test/A"),
        Ask("substring, which gets a dot at its end", "a-part-b.test", says="NXDOMAIN for=a-part-b.test/A"),
        Ask("substring as suffix without a dot", "www-suffix.test", says="NXDOMAIN"),
        Ask("regex", "www.regex.test", says="192.0.2.1 for=www.example.test/A owner=www.regex.test."),
        Ask("regex, NXDOMAIN", "none.regex.test", says="NXDOMAIN for=none.example.test/A"),
        Ask("regex, several addresses", "four.regex.test", says="answers=4 owner=four.regex.test."),
        Ask("two groups and answer name", "elsewhere-www.swap.test",
            says="198.51.100.1 for=www.elsewhere.test/A"),
        Ask("one word per line", "www.block.test", says="192.0.2.1 owner=www.block.test."),
        Ask("answer value", "alias.value.test", says="cname 192.0.2.1"),
        Ask("answer value, MX", "mail.value.test", "MX", says="answers=3"),
        Ask("answer value, SRV", "_http._tcp.value.test", "SRV", says="answers=2"),
        Ask("no rule", "www.example.test", says="192.0.2.1"),
        Ask("the question comes back as it was", "Four.ReGex.test", says="question answers=4"),
        Ask("over TCP", "www.regex.test", tcp=True, says="192.0.2.1"),
        Ask("with OPT", "www.regex.test", edns=1232, says="192.0.2.1 opt"),
    ),
    default=True,
)  # fmt: skip

CACHED = Case(
    "rewrite-cached",
    """
. {
    bind {$LISTEN}
    cache 30
    rewrite name suffix .a.test .example.test answer auto
    rewrite name exact b.test count.example.test
    forward . {$UP}
}
""",
    (
        Ask("behind cache", "count.a.test", says="192.0.2.1 ttl=30 owner=count.a.test."),
        Ask("under the client's name", "count.a.test", says="192.0.2.1 -asked aa owner=count.a.test."),
        Ask("another name for the same is another entry", "b.test", says="192.0.2.2 asked"),
        Ask("the name itself, too", "count.example.test", says="192.0.2.3 asked"),
        Ask("negative", "nx.a.test", says="NXDOMAIN asked soa"),
        Ask("negative, again", "nx.a.test", says="NXDOMAIN -asked soa"),
    ),
)

ORDER = Case(
    "rewrite-order",
    """
. {
    bind {$LISTEN}
    rewrite continue name exact first.test second.test
    rewrite name exact second.test www.example.test
    rewrite name exact stop.test middle.test
    rewrite name exact middle.test www.example.test
    rewrite continue type MX A
    rewrite continue name exact typed.test four.example.test
    rewrite class CH IN
    forward . {$UP}
}
""",
    (
        Ask("continue: both rules", "first.test", says="192.0.2.1 for=www.example.test/A"),
        Ask(
            "stop: the first rule only",
            "stop.test",
            says="NXDOMAIN for=middle.test/A auth=ns.stop.test.",
            differs="rewritten-soa",
            ours="NXDOMAIN for=middle.test/A auth=ns.middle.test.",
        ),
        Ask(
            "type",
            "www.example.test",
            "MX",
            says="192.0.2.1 for=www.example.test/A asks=A",
            differs="rewritten-type",
            ours="192.0.2.1 for=www.example.test/A asks=MX",
        ),
        Ask("type and name", "typed.test", "MX", says="answers=4 for=four.example.test/A"),
        Ask("class", "www.example.test", qclass="CH", says="NOERROR"),
    ),
)

REPLIES = Case(
    "rewrite-replies",
    """
. {
    bind {$LISTEN}
    rewrite continue ttl exact www.example.test 15
    rewrite continue ttl suffix .low.test 20-40
    rewrite continue ttl two.example.test -30
    rewrite continue ttl regex ttl\\d+\\.example\\.test 100-
    rewrite continue rcode exact nx-cname.example.test NXDOMAIN NOERROR
    rewrite continue rcode exact always-servfail.example.test SERVFAIL REFUSED
    rewrite continue rcode suffix .none.example.test NXDOMAIN NOERROR
    rewrite continue rcode 3.example.test 3 0
    rewrite continue cname exact www.example.test. four.example.test.
    rewrite continue name suffix .low.test .example.test answer auto
    forward . {$UP}
}
""",
    (
        Ask("ttl, exact", "www.example.test", says="192.0.2.1 ttl=15"),
        Ask(
            "ttl: at most",
            "two.example.test",
            says="ttl=30",
        ),
        Ask("ttl: at least", "ttl2.example.test", says="ttl=100"),
        Ask("ttl: at least, above", "ttl7200.example.test", says="ttl=7200"),
        Ask("ttl, and a name", "count.low.test"),
        Ask("ttl in a negative reply", "www.example.test", "MX", says="ttl=15"),
        Ask("rcode of a reply with records", "nx-cname.example.test", says="NOERROR"),
        Ask("rcode of a reply without records", "always-servfail.example.test", says="SERVFAIL"),
        Ask("rcode by suffix", "x.none.example.test", says="NOERROR soa"),
        Ask("rcode by number", "3.example.test", says="NOERROR soa"),
        Ask(
            "cname",
            "alias.example.test",
            says="cname four.example.test.",
        ),
        Ask(
            "no cname there",
            "four.example.test",
            says="answers=4",
        ),
    ),
)

EDNS = Case(
    "rewrite-edns0",
    """
set.test {
    bind {$LISTEN}
    rewrite continue name suffix .set.test .example.test
    rewrite edns0 local set 0xffee abcd
    forward . {$UP}
}
hex.test {
    bind {$LISTEN}
    rewrite continue name suffix .hex.test .example.test
    rewrite edns0 local set 0xffed 0x0123abcd
    forward . {$UP}
}
append.test {
    bind {$LISTEN}
    rewrite continue name suffix .append.test .example.test
    rewrite edns0 local append 65001 more
    forward . {$UP}
}
replace.test {
    bind {$LISTEN}
    rewrite continue name suffix .replace.test .example.test
    rewrite edns0 local replace 65001 other
    forward . {$UP}
}
var.test {
    bind {$LISTEN}
    rewrite continue name suffix .var.test .example.test
    rewrite continue edns0 local set 65010 {qname}
    rewrite continue edns0 local set 65011 {qtype}
    rewrite continue edns0 local set 65012 {client_ip}
    rewrite continue edns0 local set 65013 {protocol}
    rewrite continue edns0 local set 65014 {server_ip}
    forward . {$UP}
}
nsid.test {
    bind {$LISTEN}
    rewrite continue name suffix .nsid.test .example.test
    rewrite edns0 nsid set
    forward . {$UP}
}
subnet.test {
    bind {$LISTEN}
    rewrite continue name suffix .subnet.test .example.test
    rewrite edns0 subnet set 24 56
    forward . {$UP}
}
unset.test {
    bind {$LISTEN}
    rewrite continue name suffix .unset.test .example.test
    rewrite continue edns0 local unset 65001
    rewrite continue edns0 subnet unset
    forward . {$UP}
}
""",
    (
        Ask("local set", "echo.set.test", "TXT", edns=1232, says="65518:61626364"),
        Ask(
            "local set where there was no OPT",
            "echo.set.test",
            "TXT",
            says="65518:61626364",
            differs="rewritten-opt",
            ours="65518:61626364 -opt",
        ),
        Ask("local set, hexadecimal", "echo.hex.test", "TXT", edns=1232, says="65517:0123abcd"),
        Ask("local append, none there", "echo.append.test", "TXT", edns=1232, says="65001:6d6f7265"),
        Ask(
            "local replace, none there",
            "echo.replace.test",
            "TXT",
            edns=1232,
            says="RD",
            differs="rewritten-question",
            ours="RD",
        ),
        Ask(
            "variables",
            "echo.var.test",
            "TXT",
            edns=1232,
            says="65010: 65011: 65012:",
            differs="rewritten-question",
            ours="65010: 65011: 65012:",
        ),
        Ask(
            "variables over TCP",
            "echo.var.test",
            "TXT",
            edns=1232,
            tcp=True,
            says="65013:",
            differs="rewritten-question",
            ours="65013:",
        ),
        Ask("nsid", "echo.nsid.test", "TXT", edns=1232, says="3:"),
        Ask("subnet", "echo.subnet.test", "TXT", edns=1232, says="8:"),
        Ask("subnet, no OPT", "echo.subnet.test", "TXT", says="8:", differs="rewritten-opt", ours="8: -opt"),
        Ask(
            "unset",
            "echo.unset.test",
            "TXT",
            edns=1232,
            options=((65001, b"x"),),
            says="RD",
            differs="rewritten-question",
            ours="RD",
        ),
    ),
)

CASES = (NAMES, CACHED, ORDER, REPLIES, EDNS)
