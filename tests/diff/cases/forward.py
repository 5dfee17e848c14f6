# SPDX-License-Identifier: Apache-2.0
"""forward (corefile.md 2.2), and EDNS as it passes through (section 5)."""

from tests.diff.pairs import Ask, Case

NO_CACHE = Case(
    "forward-no-cache",
    """
. {
    bind {$LISTEN}
    forward . {$UP}
}
""",
    (
        Ask("each record keeps its TTL", "mixed.example.test", says="ttls=100,20 -aa"),
        Ask("asked each time", "count.example.test", says="192.0.2.1 asked"),
        Ask("asked each time, again", "count.example.test", says="192.0.2.2 asked"),
        Ask("TTL 0", "ttl0.example.test", says="ttl=0"),
        Ask("AA as upstream has it", "aa.example.test", says="aa ra"),
        Ask("RA as upstream has it", "no-ra.example.test", says="-ra", differs="ra", ours="ra"),
        Ask("NXDOMAIN", "nx.example.test", says="NXDOMAIN soa ttl=60"),
        Ask("NXDOMAIN without SOA", "nx-no-soa-cname.example.test", says="NXDOMAIN cname ttl=170"),
        Ask("SERVFAIL", "always-servfail.example.test", says="SERVFAIL asked"),
        Ask("SERVFAIL, again", "always-servfail.example.test", says="SERVFAIL asked"),
        Ask("REFUSED", "always-refused.example.test", says="REFUSED asked"),
        Ask("the case of the question", "WWW.Example.TEST", says="NOERROR"),
        Ask("over TCP, upstream by TCP", "www.example.test", tcp=True, says="over=tcp",
            differs="upstream-protocol", ours="over=udp"),
        Ask("TC over UDP", "tc.example.test", edns=1232, says="tc answers=0",
            differs="upstream-tc", ours="-tc answers=40"),
        Ask("no OPT: none", "www.example.test", says="-opt"),
        Ask("OPT: upstream's options", "options.example.test", edns=1232, says="opt options=3,15",
            differs="options", ours="opt"),
        Ask("an upstream without OPT", "no-opt.example.test", edns=1232, says="opt -options"),
        Ask("a cookie comes back", "www.example.test", edns=1232, options=((10, b"01234567"),)),
        Ask("DO", "signed.example.test", do=True, says="rrsig do ad"),
        Ask("AD without AD or DO", "ad.example.test", says="ad",
            differs="ad-unasked", ours="-ad"),
        Ask("a slow upstream", "slow.example.test", says="192.0.2.1 took>0.25"),
        Ask("RD=0 goes upstream", "echo.example.test", "TXT", rd=False, says="NOERROR"),
        Ask("AD goes upstream as it was sent", "echo-ad.example.test", "TXT", says="RD",
            differs="ad-upstream", ours="AD"),
        Ask("ECS goes upstream", "echo.example.test", "TXT", edns=1232, options=((8, bytes.fromhex("00011800c00002")),),
            says="8:", differs="options-upstream", ours="NOERROR"),
        Ask("an unknown option goes upstream", "echo.example.test", "TXT", edns=1232, options=((65001, b"abc"),),
            says="65001:", differs="options-upstream", ours="NOERROR"),
        Ask("20 kB from upstream over TCP", "texts100.example.test", "TXT", tcp=True, says="answers=100"),
        Ask("more than the client's size", "texts10.example.test", "TXT", edns=1232, says="tc"),
    ),
)  # fmt: skip

WAYS = Case(
    "forward-ways",
    """
force.test, example.test {
    bind {$LISTEN}
    cache 30
    forward . {$UP} {
        force_tcp
    }
}
www.example.test {
    bind {$LISTEN}
    forward . {$UP} {
        prefer_udp
    }
}
tc.example.test, tc-part.example.test {
    bind {$LISTEN}
    forward . {$UP} {
        prefer_udp
    }
}
two.example.test {
    bind {$LISTEN}
    forward . {$UP} {
        force_tcp
        prefer_udp
    }
}
four.example.test {
    bind {$LISTEN}
    forward . {$UP6}
}
count.example.test {
    bind {$LISTEN}
    forward . dns://{$UP}
}
count-a.example.test {
    bind {$LISTEN}
    forward . {$UP} {
        expire 1s
        max_fails 0
        health_check 1s no_rec domain example.test
        policy sequential
        max_concurrent 1000
        max_connect_attempts 3
        tls_servername example.test
        failfast_all_unhealthy_upstreams
    }
}
""",
    (
        Ask("force_tcp", "count-b.example.test", says="over=tcp ttl=30"),
        Ask("force_tcp, large", "many60.example.test", edns=1232, says="over=tcp -tc answers=60"),
        Ask("force_tcp, negative", "nx.example.test", says="NXDOMAIN over=tcp"),
        Ask(
            "force_tcp, what would be cut over UDP",
            "texts10.example.test",
            "TXT",
            tcp=True,
            says="answers=10",
        ),
        Ask("prefer_udp for a TCP client", "www.example.test", tcp=True, says="over=udp"),
        Ask("prefer_udp and TC: over TCP", "tc.example.test", edns=4096, says="-tc answers=40"),
        Ask("prefer_udp and TC from a TCP client", "tc-part.example.test", tcp=True, says="-tc answers=40"),
        Ask("force_tcp beats prefer_udp", "two.example.test", says="over=tcp"),
        Ask("an IPv6 upstream", "four.example.test", says="answers=4 asked=UP6"),
        Ask("dns://", "count.example.test", says="192.0.2.1 asked=UP"),
        Ask("all options at once", "count-a.example.test", says="192.0.2.1 asked=UP"),
    ),
    default=True,
)

ROUTES = Case(
    "forward-routes",
    """
example.test {
    bind {$LISTEN}
    forward count.example.test {$UP2}
    forward example.test {$UP} {
        except www.example.test nx.example.test
    }
}
elsewhere.test {
    bind {$LISTEN}
    forward example.test {$UP}
}
other.example.test {
    bind {$LISTEN}
    template ANY ANY {
        match never
        answer "{{ .Name }} 60 IN A 1.2.3.4"
        fallthrough
    }
    forward . {$UP}
}
10.0.4.0/22 {
    bind {$LISTEN}
    forward 10.0.4.0/22 {$UP}
}
except.test {
    bind {$LISTEN}
    forward . {$UP} {
        except deep.except.test
    }
    forward . {$UP2}
}
""",
    (
        Ask("the first stanza's zone", "count.example.test", says="198.51.100.1 asked=UP2"),
        Ask("the second stanza's zone", "two.example.test", says="192.0.2.1 asked=UP"),
        Ask("except, and no stanza left", "www.example.test", says="SERVFAIL -asked"),
        Ask("below except", "x.www.example.test", says="SERVFAIL -asked"),
        Ask("except, second word", "nx.example.test", says="SERVFAIL -asked"),
        Ask("beside except", "xwww.example.test", says="NXDOMAIN asked=UP"),
        Ask("FROM that doesn't fit the block", "www.elsewhere.test", says="SERVFAIL -asked"),
        Ask("SERVFAIL of our own: OPT", "www.elsewhere.test", edns=1232, says="SERVFAIL opt"),
        Ask("SERVFAIL of our own: CD, RD=0", "www.elsewhere.test", rd=False, cd=True, says="SERVFAIL cd -rd"),
        Ask("SERVFAIL of our own over TCP", "www.elsewhere.test", tcp=True, says="SERVFAIL"),
        Ask("behind a template that doesn't match", "x.other.example.test", says="NXDOMAIN asked=UP"),
        Ask("a CIDR as FROM: the first zone", "1.4.0.10.in-addr.arpa", "PTR", says="ten-four asked=UP"),
        Ask("a CIDR as FROM: the last zone", "1.7.0.10.in-addr.arpa", "PTR", says="SERVFAIL",
            differs="from-cidr", ours="NOERROR asked=UP"),
        Ask("except hands on to the next stanza", "deep.except.test", says="NXDOMAIN asked=UP2"),
        Ask("not excepted", "x.except.test", says="NXDOMAIN asked=UP"),
    ),
    default=True,
)  # fmt: skip

NEXT = Case(
    "forward-next",
    """
example.test {
    bind {$LISTEN}
    forward . {$UP} {
        next NXDOMAIN
    }
    forward . {$UP2}
}
always-refused.example.test {
    bind {$LISTEN}
    forward . {$UP} {
        next REFUSED SERVFAIL
    }
    forward . {$UP2}
}
alone.test {
    bind {$LISTEN}
    forward . {$UP} {
        next NXDOMAIN
    }
}
always-servfail.example.test {
    bind {$LISTEN}
    forward . {$UP} {$UP2} {
        policy sequential
        failover SERVFAIL
    }
}
servfail-b.example.test, refused.example.test {
    bind {$LISTEN}
    forward . {$UP} {$UP2} {
        policy sequential
    }
}
""",
    (
        Ask("next: not on NOERROR", "www.example.test", says="192.0.2.1 asked=UP"),
        Ask("next: on NXDOMAIN", "nx.example.test", says="198.51.100.2 asked=UP,UP2"),
        Ask("next: on another rcode", "always-refused.example.test", says="198.51.100.2 asked=UP,UP2"),
        Ask("next without a stanza behind", "x.alone.test", says="NXDOMAIN asked=UP"),
        Ask("failover", "always-servfail.example.test", says="198.51.100.2 asked=UP,UP2"),
        Ask("no failover: a SERVFAIL is the answer", "servfail-b.example.test", says="SERVFAIL asked=UP",
            differs="failed-upstream", ours="asked=UP,UP2"),
        Ask("no failover: so is REFUSED", "refused.example.test", says="REFUSED asked=UP",
            differs="failed-upstream", ours="asked=UP,UP2"),
    ),
)  # fmt: skip

POLICIES = Case(
    "forward-policies",
    """
count.example.test {
    bind {$LISTEN}
    forward . {$UP} {$UP2} {
        policy sequential
    }
}
www.example.test {
    bind {$LISTEN}
    forward . {$UP} {$UP2} {
        policy round_robin
    }
}
www.elsewhere.test {
    bind {$LISTEN}
    forward . {$UP} {$UP2}
}
two.example.test {
    bind {$LISTEN}
    forward . {$DEAD} {$UP} {
        policy sequential
    }
}
four.example.test {
    bind {$LISTEN}
    forward . {$DIR}/resolv.conf
}
aa.example.test {
    bind {$LISTEN}
    forward . {$DEAD} {$UP} {
        policy sequential
        force_tcp
    }
}
silent.example.test {
    bind {$LISTEN}
    forward . {$UP} {$UP2} {
        policy sequential
    }
}
dead.test {
    bind {$LISTEN}
    errors
    forward . {$DEAD}
}
""",
    (
        Ask("sequential: the first", "count.example.test", says="192.0.2.1 asked=UP"),
        Ask("sequential: again the first", "count.example.test", says="192.0.2.2 asked=UP"),
        Ask("round robin: both in turn", "www.example.test", repeat=4, says="firsts=2"),
        Ask("random: both", "www.elsewhere.test", repeat=24, says="firsts=2", unsteady=True, any_order=True),
        Ask("a closed port first", "two.example.test", says="NOERROR 192.0.2.1 took<2"),
        Ask("a closed port first, over TCP", "aa.example.test", says="NOERROR 192.0.2.1 took<2"),
        Ask("a silent upstream first", "silent.example.test", says="198.51.100.2 took>1.9",
            differs="lost-packet", ours="198.51.100.2 took<1", unsteady=True),
        Ask("all ports closed", "x.dead.test", says="SERVFAIL took<2", unsteady=True),
        Ask("all ports closed, again", "x.dead.test", says="SERVFAIL took<2", unsteady=True),
    ),
    files={"resolv.conf": "search example.test\noptions ndots:5\nnameserver 127.0.0.1\n"},
)  # fmt: skip

SILENCE = Case(
    "forward-silence",
    """
. {
    bind {$LISTEN}
    errors
    forward . {$UP}
}
""",
    (
        Ask("a lost packet", "silent-once.example.test", says="192.0.2.2 took>1.9",
            differs="lost-packet", ours="192.0.2.2 took<1", unsteady=True),
        Ask("the wrong ID for ever", "other-id.example.test", says="SERVFAIL took>5.5",
            differs="all-fail", ours="SERVFAIL took<4.9", unsteady=True),
    ),
)  # fmt: skip

SILENT = Case(
    "forward-silent",
    """
. {
    bind {$LISTEN}
    cache
    forward . {$UP}
}
""",
    (
        Ask("nothing ever comes", "silent.example.test", edns=1232, says="SERVFAIL took>5.5 took<6.6",
            differs="all-fail", ours="SERVFAIL took<4.9", unsteady=True),
        Ask("our own SERVFAIL isn't kept", "silent.example.test", says="SERVFAIL asked",
            differs="own-failure-kept", ours="SERVFAIL -asked took<0.5", unsteady=True),
    ),
)  # fmt: skip

CASES = (NO_CACHE, WAYS, ROUTES, NEXT, POLICIES, SILENCE, SILENT)
