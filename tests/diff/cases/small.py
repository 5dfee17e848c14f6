# SPDX-License-Identifier: Apache-2.0
"""bind, bufsize, debug, errors, health, loop, pprof, ready, reload, timeouts, trace, whoami (corefile.md 2.3)."""

from tests.diff.pairs import Ask, Case

WHOAMI = Case(
    "whoami",
    """
whoami.test {
    bind {$LISTEN} {$LISTEN6}
    whoami
}
cached.test {
    bind {$LISTEN}
    cache
    whoami
}
""",
    (
        Ask(
            "A, by IPv4", "x.whoami.test", says="NOERROR aa answers=0 additional=2 extra=127.0.0.1 srv ttl=0"
        ),
        Ask("any type", "x.whoami.test", "MX", says="NOERROR aa additional=2"),
        Ask("by IPv6", "x.whoami.test", v6=True, says="extra=::1 owner=_udp.x.whoami.test."),
        Ask("over TCP", "x.whoami.test", tcp=True, says="owner=_tcp.x.whoami.test."),
        Ask("with OPT", "x.whoami.test", edns=1232, says="opt additional=2"),
        Ask("letters' case", "X.WhoAmI.test", says="NOERROR owner=_udp.X.WhoAmI.test."),
        Ask("TTL 0 behind cache", "y.cached.test", says="ttl=5"),
    ),
    default=True,
)

BUFSIZE = Case(
    "bufsize",
    """
example.test {
    bind {$LISTEN}
    bufsize 700
    forward . {$UP}
}
sub.test {
    bind {$LISTEN}
    bufsize
    cache
    forward . {$UP}
}
""",
    (
        Ask("a larger client size is lowered", "many60.example.test", edns=4096, says="tc opt=700 size<=700",
            differs="opt-size", ours="tc opt=1232 size<=700"),
        Ask("a smaller one is kept", "many60.example.test", edns=600, says="tc size<=600"),
        Ask("no OPT: 512", "many60.example.test", says="tc -opt size<=512"),
        Ask("not over TCP", "many60.example.test", edns=4096, tcp=True, says="-tc answers=60"),
        Ask("an answer that fits", "www.example.test", edns=4096, says="NOERROR -tc"),
        Ask("bufsize alone is 1232", "x.sub.test", edns=4096, says="NXDOMAIN"),
    ),
)  # fmt: skip

SIZES = Case(
    "sizes",
    """
. {
    bind {$LISTEN}
    cache 3600
    forward . {$UP} {
        force_tcp
    }
}
""",
    (
        Ask("28 addresses without OPT fit", "many28.example.test", says="-tc answers=28 size<=512"),
        Ask("29 addresses without OPT", "many29.example.test"),
        Ask("60 addresses without OPT", "many60.example.test", says="tc size<=512"),
        Ask("the same from the cache", "many60.example.test", says="tc -asked size<=512"),
        Ask("60 addresses within 1232", "many60.example.test", edns=1232, says="-tc answers=60"),
        Ask("60 addresses within 900", "many60.example.test", edns=900, says="tc size<=900"),
        Ask("an OPT of size 0 is 512", "many60.example.test", edns=100, says="tc size<=512"),
        Ask("90 addresses within 1400", "many90.example.test", edns=1400, says="tc size<=1400"),
        Ask("400 addresses within 4096", "many400.example.test", edns=4096, says="tc size<=4096"),
        Ask("400 addresses over TCP", "many400.example.test", tcp=True, says="-tc answers=400 -asked"),
        Ask("more than 4096: the client's size counts", "many400.example.test", edns=8192,
            says="-tc answers=400", differs="size-cap", ours="tc size<=4096"),
        Ask("20 kB over TCP", "texts100.example.test", "TXT", tcp=True, says="answers=100"),
        Ask("20 kB over UDP", "texts100.example.test", "TXT", edns=4096, says="tc -asked size<=4096"),
        Ask("a text per record: whole records", "texts4.example.test", "TXT", says="tc size<=512"),
        Ask("five kB within 4096", "texts25.example.test", "TXT", edns=4096, says="tc size<=4096"),
        Ask("additional records that don't fit", "long-additional.example.test", "SRV", says="size<=512",
            differs="additional-cut", ours="-tc answers=1"),
    ),
    default=True,
)  # fmt: skip

QUIET = Case(
    "quiet-plugins",
    """
. {
    bind {$LISTEN}
    debug
    errors
    health {$HEALTH} {
        lameduck 0s
    }
    log
    loop
    pprof 127.0.0.1:0
    reload 10s 5s
    timeouts {
        read 5s
        write 6
        idle 20s
    }
    trace zipkin {$DEAD} {
        every 100
        service diff
        client_server false
    }
    prometheus {$METRICS}
    forward . {$UP}
}
""".replace("    pprof 127.0.0.1:0\n", ""),
    (
        Ask("plugins that only look on change nothing", "www.example.test", says="NOERROR 192.0.2.1"),
        Ask("nor over TCP", "www.example.test", tcp=True, says="NOERROR 192.0.2.1"),
        Ask("nor for failures", "always-servfail.example.test", says="SERVFAIL"),
        Ask("HINFO that isn't loop's", "x.example.test", "HINFO", says="NXDOMAIN", unsteady=True),
    ),
)

BIND = Case(
    "bind",
    """
example.test {
    bind {$LISTEN}
    bind {$LISTEN6}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT both"
    }
}
four.test {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT four"
    }
}
six.test {
    bind {$LISTEN6}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT six"
    }
}
four-or-six.test {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT by-four"
    }
}
four-or-six.test {
    bind {$LISTEN6}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT by-six"
    }
}
lo.test {
    bind lo
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT interface"
    }
}
but.test {
    bind lo {
        except {$LISTEN6}
    }
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT but"
    }
}
""",
    (
        Ask("two bind lines: the first", "x.example.test", "TXT", says="both"),
        Ask("two bind lines: the second", "x.example.test", "TXT", v6=True, says="both"),
        Ask("TCP on the second", "x.example.test", "TXT", v6=True, tcp=True, says="both"),
        Ask("bound to IPv4, asked there", "x.four.test", "TXT", says="four"),
        Ask("bound to IPv4, asked by IPv6", "x.four.test", "TXT", v6=True, says="REFUSED"),
        Ask("bound to IPv6, asked there", "x.six.test", "TXT", v6=True, says="six"),
        Ask("bound to IPv6, asked by IPv4", "x.six.test", "TXT", says="REFUSED"),
        Ask("one zone, another block for each address: IPv4", "x.four-or-six.test", "TXT", says="by-four"),
        Ask(
            "one zone, another block for each address: IPv6",
            "x.four-or-six.test",
            "TXT",
            v6=True,
            says="by-six",
        ),
        Ask("bound to an interface", "x.lo.test", "TXT", says="interface"),
        Ask("bound to an interface, its IPv6 address", "x.lo.test", "TXT", v6=True, says="interface"),
        Ask("an interface but for one address", "x.but.test", "TXT", says="but"),
        Ask("that address", "x.but.test", "TXT", v6=True, says="REFUSED"),
    ),
)

TIMEOUTS = Case(
    "timeouts",
    """
example.test {
    bind {$LISTEN}
    timeouts {
        read 1s
        idle 2s
    }
    forward . {$UP} {
        force_tcp
    }
}
other.test {
    bind {$LISTEN6}
    forward . {$UP}
}
""",
    (
        Ask("a query within the read timeout", "www.example.test", tcp=True, hold=0.4, says="192.0.2.1"),
        Ask("a query after the read timeout", "www.example.test", tcp=True, hold=1.8, says="SILENCE"),
        Ask("a second one within the idle timeout", "www.example.test", tcp=True, idle=1.2, says="192.0.2.1"),
        Ask("a second one after the idle timeout", "www.example.test", tcp=True, idle=3.2, says="SILENCE"),
        Ask("another address has the defaults", "x.other.test", v6=True, tcp=True, hold=1.8, says="NXDOMAIN"),
    ),
)  # fmt: skip

NO_TIMEOUTS = Case(
    "no-timeouts",
    """
. {
    bind {$LISTEN}
    forward . {$UP}
}
""",
    (
        Ask("3 s by default: within", "www.example.test", tcp=True, hold=2.0, says="NOERROR"),
        Ask("3 s by default: after", "www.example.test", tcp=True, hold=4.2, says="SILENCE"),
        Ask("10 s idle by default: within", "www.example.test", tcp=True, idle=6.0, says="NOERROR"),
    ),
)

CASES = (TIMEOUTS, NO_TIMEOUTS, WHOAMI, BUFSIZE, SIZES, QUIET, BIND)
