# SPDX-License-Identifier: Apache-2.0
"""template, dns64, loadbalance: plugins that make or change answers (corefile.md 2.3)."""

from tests.diff.pairs import Ask, Case

TEMPLATE = Case(
    "template",
    """
t.test {
    bind {$LISTEN}
    template IN A t.test {
        match ^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)-(?P<c>[0-9]+)-(?P<d>[0-9]+)[.]t[.]test[.]$
        answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
        fallthrough
    }
    template IN AAAA t.test {
        rcode NXDOMAIN
        authority "t.test 30 IN SOA ns.t.test hostmaster.t.test 1 2 3 4 5"
    }
    template IN MX t.test {
        match ^(.*)[.]t[.]test[.]$
        answer "{{ .Name }} 60 IN MX 10 mail.{{ index .Match 1 }}.test"
        additional "mail.{{ index .Match 1 }}.test 60 IN A 192.0.2.25"
    }
    template IN TXT t.test {
        match ^name[.]
        answer "{{ .Name }} 60 IN TXT \\"{{ .Class }} {{ .Type }} {{ .Zone }}\\""
        fallthrough
    }
    template IN TXT t.test {
        match ^id[.]
        answer "{{ .Name }} 60 IN TXT \\"{{ .Question.Name }} {{ .Message.RecursionDesired }}\\""
        fallthrough
    }
    template IN TXT t.test {
        match ^remote[.]
        answer "{{ .Name }} 60 IN TXT {{ .Remote }}"
        fallthrough
    }
    template IN TXT t.test {
        match ^hex-([0-9a-f]+)[.]
        answer "{{ .Name }} 60 IN TXT {{ parseInt (index .Match 1) 16 64 }}"
        fallthrough
    }
    template IN TXT t.test {
        match ^if-(yes|no)[.]
        answer "{{ .Name }} 60 IN TXT {{ if eq (index .Match 1) \\"yes\\" }}positive{{ else }}negative{{ end }}"
        fallthrough
    }
    template IN ANY t.test {
        rcode REFUSED
    }
}
nodata.test {
    bind {$LISTEN}
    template IN AAAA nodata.test {
        rcode NOERROR
    }
    template IN A nodata.test {
        match ^only[.]
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
    template ANY ANY nodata.test {
        rcode NXDOMAIN
        ederror 15 "blocked by policy"
    }
}
codes.test {
    bind {$LISTEN}
    template IN A codes.test {
        rcode SERVFAIL
    }
    template IN AAAA codes.test {
        rcode NOTIMP
    }
    template IN MX codes.test {
        rcode REFUSED
        authority "codes.test 30 IN SOA ns.t.test hostmaster.t.test 1 2 3 4 5"
    }
    template ANY TXT codes.test {
        answer "{{ .Name }} 60 {{ .Class }} TXT {{ .Class }}"
    }
}
chase.test {
    bind {$LISTEN}
    template IN ANY x.chase.test {
        match .*
        answer "{{ .Name }} 60 IN CNAME www.example.test."
    }
    forward . {$UP}
}
cached.test {
    bind {$LISTEN}
    cache 30
    template IN A cached.test {
        answer "{{ .Name }} 600 IN A 192.0.2.1"
    }
}
example.test {
    bind {$LISTEN}
    forward . {$UP}
}
""",
    (
        Ask("named groups", "ip-10-1-2-3.t.test", says="aa 10.1.2.3 ttl=60"),
        Ask("letters' case", "IP-10-1-2-3.T.test", says="10.1.2.3"),
        Ask("groups that make no address", "ip-10-1-2-999.t.test", says="SERVFAIL"),
        Ask("no match, fallthrough to REFUSED", "x.t.test", says="REFUSED"),
        Ask(
            "rcode and authority",
            "x.t.test",
            "AAAA",
            says="NXDOMAIN aa soa",
            differs="soa-minimum",
            ours="NXDOMAIN aa soa ttl=5",
        ),
        Ask(
            "groups by number, additional",
            "x.t.test",
            "MX",
            says="mail.x.test. extra=192.0.2.25",
        ),
        Ask("no match, no fallthrough", "t.test", "MX", says="SERVFAIL"),
        Ask("class, type, zone", "name.t.test", "TXT", says="IN TXT t.test."),
        Ask("the message", "id.t.test", "TXT", says="true"),
        Ask("the message, RD=0", "id.t.test", "TXT", rd=False, says="false"),
        Ask("the client's address", "remote.t.test", "TXT", says="127.0.0.1"),
        Ask("parseInt", "hex-ff.t.test", "TXT", says="255"),
        Ask("parseInt of what is no number", "hex-fffffffffffffffff.t.test", "TXT", says="SERVFAIL"),
        Ask("if", "if-yes.t.test", "TXT", says="positive"),
        Ask("else", "if-no.t.test", "TXT", says="negative"),
        Ask("no template for it", "none.t.test", "TXT", says="REFUSED"),
        Ask("the NODATA recipe", "x.nodata.test", "AAAA", says="NOERROR aa -records"),
        Ask("match without fallthrough: it", "only.nodata.test", says="192.0.2.1"),
        Ask("match without fallthrough: not it", "other.nodata.test", says="SERVFAIL"),
        Ask(
            "an extended error",
            "x.nodata.test",
            "MX",
            edns=1232,
            says="NXDOMAIN opt do options=15",
            differs="ederror-opt",
            ours="NXDOMAIN opt -do options=15",
        ),
        Ask(
            "an extended error without OPT",
            "x.nodata.test",
            "MX",
            says="NXDOMAIN opt options=15",
            differs="ederror-opt",
            ours="NXDOMAIN -opt",
        ),
        Ask("rcode SERVFAIL", "x.codes.test", says="SERVFAIL"),
        Ask("rcode NOTIMP", "x.codes.test", "AAAA", says="NOTIMP"),
        Ask(
            "rcode REFUSED with a record",
            "x.codes.test",
            "MX",
            says="REFUSED soa",
        ),
        Ask("nothing for the type", "x.codes.test", "SRV"),
        Ask("an alias is followed", "x.chase.test", says="cname 192.0.2.1"),
        Ask("an alias is followed for AAAA", "x.chase.test", "AAAA", says="cname 2001:db8::1"),
        Ask("not for another type", "x.chase.test", "TXT", says="cname answers=1"),
        Ask("behind cache", "x.cached.test", says="192.0.2.1 ttl=30"),
        Ask("behind cache, again", "x.cached.test", wait=1.2, says="192.0.2.1 ttl=29"),
        Ask("over TCP", "ip-10-1-2-3.t.test", tcp=True, says="10.1.2.3"),
        Ask("with OPT", "ip-10-1-2-3.t.test", edns=1232, says="10.1.2.3 opt"),
    ),
    default=True,
)

DNS64 = Case(
    "dns64",
    """
example.test {
    bind {$LISTEN} {$LISTEN6}
    dns64
    cache 300
    forward . {$UP}
}
v4short.example.test {
    bind {$LISTEN} {$LISTEN6}
    dns64 2001:db8:64::/96
    forward . {$UP}
}
two.example.test {
    bind {$LISTEN} {$LISTEN6}
    dns64 {
        prefix fd00::/64
        allow_ipv4
    }
    forward . {$UP}
}
dual.example.test {
    bind {$LISTEN} {$LISTEN6}
    dns64 {
        translate_all
    }
    forward . {$UP}
}
dns64.test {
    bind {$LISTEN} {$LISTEN6}
    dns64
    rewrite name suffix .dns64.test .example.test answer auto
    forward . {$UP}
}
""",
    (
        Ask("AAAA by IPv6 of a name with A only", "v4only.example.test", "AAAA", v6=True,
            says="NOERROR 64:ff9b::c000:201 64:ff9b::c000:202"),
        Ask("again, from the cache", "v4only.example.test", "AAAA", v6=True, says="64:ff9b::c000:201 -asked"),
        Ask("AAAA by IPv4", "v4only.example.test", "AAAA", says="NOERROR answers=0 -asked", differs="dns64-families", ours="NOERROR answers=0 asked"),
        Ask("A by IPv6", "v4only.example.test", v6=True, says="192.0.2.1 192.0.2.2"),
        Ask("a name that has AAAA", "www.example.test", "AAAA", v6=True, says="2001:db8::1 answers=1"),
        Ask("NXDOMAIN", "nx2.example.test", "AAAA", v6=True, says="NXDOMAIN"),
        Ask("an alias", "v4alias.example.test", "AAAA", v6=True, says="cname 64:ff9b::c000:201", differs="dns64-ttl", ours="cname 64:ff9b::c000:201 ttl=60"),
        Ask("SERVFAIL for AAAA", "v4servfail.example.test", "AAAA", v6=True),
        Ask("with DO", "v4only.example.test", "AAAA", v6=True, do=True),
        Ask("another type by IPv6", "mail.example.test", "MX", v6=True, says="answers=3"),
        Ask("a prefix; the A's TTL is lower", "v4short.example.test", "AAAA", v6=True,
            says="2001:db8:64::c000:201 ttl=20"),
        Ask("a prefix of 64 bits, IPv4 client", "two.example.test", "AAAA", says="fd00::c0:2:100:0"),
        Ask("translate_all", "dual.example.test", "AAAA", v6=True, says="64:ff9b::c000:201"),
        Ask("translate_all by IPv4", "dual.example.test", "AAAA", says="2001:db8::1"),
        Ask("behind a rewrite", "v4only.dns64.test", "AAAA", v6=True, says="NOERROR answers=2",
            differs="dns64-rewritten", ours="NOERROR answers=2"),
        Ask("over TCP", "v4short.example.test", "AAAA", v6=True, tcp=True, says="2001:db8:64::c000:201"),
    ),
)  # fmt: skip

LOADBALANCE = Case(
    "loadbalance",
    """
example.test {
    bind {$LISTEN}
    loadbalance
    cache 300
    forward . {$UP}
}
four.example.test {
    bind {$LISTEN}
    loadbalance round_robin
    forward . {$UP}
}
two.example.test {
    bind {$LISTEN}
    loadbalance {
        prefer 192.0.2.2/32
    }
    forward . {$UP}
}
count.example.test {
    bind {$LISTEN}
    loadbalance weighted {$DIR}/weights {
        reload 0
    }
    forward . {$UP}
}
""",
    (
        Ask("addresses in any order", "chain.example.test", any_order=True, says="answers=4"),
        Ask("aliases stay first", "chain.example.test", repeat=30, any_order=True, says="cname answers=4 firsts=2"),
        Ask("MX in any order", "mail.example.test", "MX", repeat=40, any_order=True, says="firsts=3"),
        Ask("without cache", "four.example.test", repeat=40, any_order=True, says="firsts=4", unsteady=True),
        Ask("AAAA", "four.example.test", "AAAA", repeat=40, any_order=True, says="firsts=4", unsteady=True),
        Ask("SRV keeps its order", "_http._tcp.example.test", "SRV", says="answers=2"),
        Ask("one address", "www.example.test", says="192.0.2.1"),
        Ask("NXDOMAIN", "nx.example.test", says="NXDOMAIN soa"),
        Ask("prefer", "two.example.test", repeat=20, any_order=True, says="firsts=1 192.0.2.2"),
        Ask("weighted", "count.example.test", says="NOERROR"),
        Ask("too large for UDP: another part each time", "many60.example.test", repeat=40, any_order=True,
            unsteady=True, differs="rotated-part", ours="tc"),
    ),
    files={"weights": "count.example.test\n192.0.2.1 3\n192.0.2.2 1\n"},
)  # fmt: skip

CASES = (TEMPLATE, DNS64, LOADBALANCE)
