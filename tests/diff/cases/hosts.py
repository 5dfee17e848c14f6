# SPDX-License-Identifier: Apache-2.0
"""hosts (corefile.md 2.3)."""

from tests.diff.pairs import Ask, Case

HOSTS = Case(
    "hosts",
    """
hosts.test {
    bind {$LISTEN}
    prometheus {$METRICS}
    hosts {$DIR}/hosts
}
inline.test {
    bind {$LISTEN}
    hosts {
        192.0.2.10 a.inline.test b.inline.test
        192.0.2.11 a.inline.test
        2001:db8::10 a.inline.test
        192.0.2.12 *.wild.inline.test
        192.0.2.13 UPPER.Inline.Test
        ttl 60
        fallthrough
    }
    forward . {$UP}
}
example.test {
    bind {$LISTEN}
    cache 30
    hosts {$DIR}/hosts example.test {
        192.0.2.99 www.example.test
        ttl 600
        fallthrough two.example.test four.example.test
    }
    forward . {$UP}
}
2.0.192.in-addr.arpa, 8.b.d.0.1.0.0.2.ip6.arpa {
    bind {$LISTEN}
    hosts {$DIR}/hosts hosts.test inline.test {
        192.0.2.10 a.inline.test
        192.0.2.10 b.inline.test
        192.0.2.30 www.outside.test
        fallthrough
    }
    forward . {$UP}
}
100.51.198.in-addr.arpa {
    bind {$LISTEN}
    hosts {
        198.51.100.1 1.100.51.198.in-addr.arpa
        no_reverse
        fallthrough
    }
    forward . {$UP}
}
zoned.test {
    bind {$LISTEN}
    hosts {$DIR}/hosts sub.zoned.test {
        fallthrough
    }
    forward . {$UP}
}
none.test {
    bind {$LISTEN}
    hosts {$DIR}/none {
        reload 0
        fallthrough
    }
    forward . {$UP}
}
""",
    (
        Ask("a file: A", "one.hosts.test", says="NOERROR aa 192.0.2.20 ttl=3600"),
        Ask("a file: AAAA", "one.hosts.test", "AAAA", says="2001:db8::20"),
        Ask("a file: a second name in the line", "uno.hosts.test", says="192.0.2.20"),
        Ask("a file: two lines for a name", "two.hosts.test", says="answers=2"),
        Ask("letters' case in the file", "upper.hosts.test", says="192.0.2.23"),
        Ask("letters' case in the query", "ONE.Hosts.test", says="192.0.2.20"),
        Ask("known, but not this type", "one.hosts.test", "MX", says="NOERROR aa -records"),
        Ask("known, but only as IPv4", "uno.hosts.test", "AAAA", says="NOERROR aa answers=0 -soa"),
        Ask("unknown, no fallthrough", "none.hosts.test", says="SERVFAIL"),
        Ask("unknown type of an unknown name", "none.hosts.test", "TXT", says="SERVFAIL"),
        Ask("a comment in the file", "commented.hosts.test", says="SERVFAIL"),
        Ask("a name with a dot at its end", "dot.hosts.test", says="192.0.2.24"),
        Ask("a bad address is left out", "bad.hosts.test", says="SERVFAIL"),
        Ask("inline: A", "a.inline.test", says="answers=2 ttl=60 192.0.2.10 192.0.2.11"),
        Ask("inline: AAAA", "a.inline.test", "AAAA", says="2001:db8::10"),
        Ask("inline: second name", "b.inline.test", says="192.0.2.10 answers=1"),
        Ask("inline: no such type", "b.inline.test", "AAAA", says="NOERROR answers=0 -asked"),
        Ask("inline: other letters", "upper.inline.test", says="192.0.2.13"),
        Ask("inline: a wildcard", "x.wild.inline.test", says="NXDOMAIN asked", differs="hosts-wildcard", ours="192.0.2.12 -asked"),
        Ask("inline: fallthrough", "c.inline.test", says="NXDOMAIN asked"),
        Ask("inline: with OPT", "a.inline.test", edns=1232, says="opt answers=2"),
        Ask("inline: over TCP", "a.inline.test", tcp=True, says="answers=2"),
        Ask("behind cache: the cap", "www.example.test", says="192.0.2.99 ttl=30 aa"),
        Ask("behind cache, again", "www.example.test", says="192.0.2.99 ttl=30 -asked"),
        Ask("fallthrough for a zone: inside", "two.example.test", says="192.0.2.2 asked"),
        Ask("fallthrough for a zone: outside", "count.example.test", says="SERVFAIL -asked"),
        Ask("PTR from a file", "20.2.0.192.in-addr.arpa", "PTR", says="one.hosts.test. aa ttl=3600"),
        Ask("PTR from inline lines: two names", "10.2.0.192.in-addr.arpa", "PTR", says="answers=2"),
        Ask("PTR for IPv6", "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR",
            says="one.hosts.test."),
        Ask("PTR without data falls through", "1.2.0.192.in-addr.arpa", "PTR", says="www.example.test. asked"),
        Ask("PTR to a name outside of hosts' zones", "30.2.0.192.in-addr.arpa", "PTR", says="NXDOMAIN asked"),
        Ask("another type of a reverse name", "20.2.0.192.in-addr.arpa", "TXT", says="NXDOMAIN"),
        Ask("no_reverse", "1.100.51.198.in-addr.arpa", "PTR", says="NXDOMAIN asked"),
        Ask("outside of hosts' zones", "one.zoned.test", says="NXDOMAIN asked"),
        Ask("inside of hosts' zones", "one.sub.zoned.test", says="192.0.2.25 -asked"),
        Ask("a file that isn't there", "www.none.test", says="NXDOMAIN asked"),
    ),
    files={
        "hosts": """# a comment
192.0.2.20 one.hosts.test uno.hosts.test
2001:db8::20\tone.hosts.test
192.0.2.21 two.hosts.test
192.0.2.22 two.hosts.test # another
#192.0.2.26 commented.hosts.test
192.0.2.23 Upper.HOSTS.test
192.0.2.24 dot.hosts.test.
192.0.2.300 bad.hosts.test
192.0.2.25 one.sub.zoned.test one.zoned.test
"""
    },
    default=True,
    metrics=True,
)  # fmt: skip

CASES = (HOSTS,)
