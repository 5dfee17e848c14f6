# SPDX-License-Identifier: Apache-2.0
"""The Corefiles that are in use: RKE2's and Kubernetes' own, with metrics and logs compared as well."""

from tests.diff.pairs import Ask, Case

_BLOCK = """
{zone} {{
    errors
    cache 30
    reload
    loop
    bind {{$LISTEN}}
    forward . {{$UP}} {{
        force_tcp
    }}
    prometheus {{$METRICS}}
}}
"""

RKE2 = Case(
    "rke2",
    """
    cluster.local {
        errors
        cache {
            success 9984 30
            denial 9984 5
        }
        reload
        loop
        bind {$LISTEN} 
        forward . {$UP} {
            force_tcp
        }
        prometheus {$METRICS}
        health {$HEALTH}

        }
"""
    + _BLOCK.format(zone="in-addr.arpa")
    + _BLOCK.format(zone="ip6.arpa")
    + _BLOCK.format(zone=".").replace(" {\n        force_tcp\n    }", ""),
    (
        Ask("a service", "nginx.default.svc.cluster.local", says="NOERROR aa 10.43.0.7 ttl=5 over=tcp"),
        Ask("a service, again", "nginx.default.svc.cluster.local", says="NOERROR aa 10.43.0.7 -asked"),
        Ask("its AAAA", "nginx.default.svc.cluster.local", "AAAA", says="NOERROR answers=0 soa ttl=5"),
        Ask("the search path: first", "www.example.test.default.svc.cluster.local", says="NXDOMAIN ttl=5"),
        Ask("the search path: second", "www.example.test.svc.cluster.local", says="NXDOMAIN ttl=5"),
        Ask("the search path: third", "www.example.test.cluster.local", says="NXDOMAIN ttl=5"),
        Ask("the name itself", "www.example.test", says="NOERROR 192.0.2.1 ttl=30"),
        Ask("the name itself, again, with OPT", "www.example.test", edns=1232, says="aa 192.0.2.1 -asked opt"),
        Ask("a reverse name", "1.2.0.192.in-addr.arpa", "PTR", says="www.example.test. over=tcp"),
        Ask("a reverse name of IPv6",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR",
            says="www.example.test. over=tcp"),
        Ask("over TCP", "www.example.test", tcp=True, says="192.0.2.1 -asked"),
        Ask("DO", "www.example.test", do=True, says="do asked"),
        Ask("another type", "mail.example.test", "MX", says="answers=3 ttl=30"),
        Ask("SERVFAIL", "always-servfail.example.test", says="SERVFAIL"),
        Ask("a type without a name of its own", "odd.example.test", "TYPE65280", says="NOERROR"),
        # Each block's probe for loops is a HINFO query, NXDOMAIN: these bring the same to all zones' metrics.
        Ask("a name that isn't there", "none.example.test", "CAA", says="NXDOMAIN"),
        Ask("a service that isn't there, type CAA", "none.default.svc.cluster.local", "CAA", says="NXDOMAIN"),
        Ask("a reverse name that isn't there, type CAA", "9.2.0.192.in-addr.arpa", "CAA", says="NXDOMAIN"),
        Ask("a reverse name of IPv6 that isn't there", "9.8.b.d.0.1.0.0.2.ip6.arpa", "CAA", says="NXDOMAIN"),
    ),
    http=(
        ("HEALTH", "GET", "/health"),
        ("HEALTH", "POST", "/health"),
        ("HEALTH", "HEAD", "/health"),
        ("HEALTH", "GET", "/"),
        ("HEALTH", "GET", "/health/"),
        ("HEALTH", "GET", "/ready"),
        ("METRICS", "GET", "/metrics"),
        ("METRICS", "GET", "/"),
        ("METRICS", "GET", "/health"),
    ),
    default=True,
    metrics=True,
)  # fmt: skip

KUBERNETES = Case(
    "kubernetes",
    """cluster.local {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind {$LISTEN}
    forward . {$UP} {
            force_tcp
    }
    prometheus {$METRICS}
    health {$HEALTH}
    }
in-addr.arpa {
    errors
    cache 30
    reload
    loop
    bind {$LISTEN}
    forward . {$UP} {
            force_tcp
    }
    prometheus {$METRICS}
    }
. {
    errors
    log
    cache 30
    reload
    loop
    bind {$LISTEN}
    forward . {$UP}
    prometheus {$METRICS}
    }
""",
    (
        Ask("a service", "nginx.default.svc.cluster.local", says="aa 10.43.0.7 ttl=5"),
        Ask("outside of the cluster", "www.example.test", says="192.0.2.1 ttl=30"),
        Ask("IPv6 reverse names fall to the root", "1.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", says="NXDOMAIN"),
        Ask("a reverse name that isn't there", "9.2.0.192.in-addr.arpa", "CAA", says="NXDOMAIN"),
        Ask("a service that isn't there, type CAA", "none.default.svc.cluster.local", "CAA", says="NXDOMAIN"),
        Ask("a name that isn't there, type CAA", "none.example.test", "CAA", says="NXDOMAIN"),
    ),
    metrics=True,
)

PLUGIN_LABELS = Case(
    "plugin-labels",
    """
example.test {
    bind {$LISTEN}
    prometheus {$METRICS}
    loadbalance
    cache 30
    forward . {$UP}
}
plain.test, other.test {
    bind {$LISTEN}
    prometheus {$METRICS}
    forward . {$UP}
}
hosts.test {
    bind {$LISTEN}
    prometheus {$METRICS}
    hosts {
        192.0.2.1 a.hosts.test
    }
}
template.test {
    bind {$LISTEN}
    prometheus {$METRICS}
    template IN A template.test {
        match ^a[.]
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
whoami.test {
    bind {$LISTEN} {$LISTEN6}
    prometheus {$METRICS}
    whoami
}
quiet.test {
    bind {$LISTEN}
    cache 30
    forward . {$UP}
}
""",
    (
        Ask("loadbalance is outermost", "two.example.test", any_order=True, says="answers=2"),
        Ask("forward", "x.plain.test", says="NXDOMAIN"),
        Ask("a block's second zone", "x.other.test", "AAAA", says="NXDOMAIN"),
        Ask("hosts", "a.hosts.test", says="192.0.2.1"),
        Ask("hosts without an answer", "b.hosts.test", says="SERVFAIL"),
        Ask("template", "a.template.test", says="192.0.2.1"),
        Ask("template without a match", "b.template.test", says="SERVFAIL"),
        Ask("whoami", "x.whoami.test", says="NOERROR"),
        Ask("by IPv6, TCP", "x.whoami.test", v6=True, tcp=True, says="NOERROR"),
        Ask("a block without prometheus", "x.quiet.test", says="NXDOMAIN"),
        Ask("no block", "x.nowhere.test", says="REFUSED"),
        Ask("DO is counted", "x.plain.test", do=True, says="NXDOMAIN"),
        Ask("a type that is `other`", "x.plain.test", "CAA", says="NXDOMAIN"),
    ),
    metrics=True,
    same_counts=True,
)

DNS64_LABELS = Case(
    "dns64-labels",
    """
v4only.example.test {
    bind {$LISTEN} {$LISTEN6}
    prometheus {$METRICS}
    dns64
    forward . {$UP}
}
""",
    (
        Ask("translated", "v4only.example.test", "AAAA", v6=True, says="64:ff9b::c000:201"),
        Ask("its A", "v4only.example.test", v6=True, says="192.0.2.1"),
        Ask("nothing to translate", "v4only.example.test", "TXT", v6=True),
    ),
    metrics=True,
)

LOG = Case(
    "log",
    """
example.test {
    bind {$LISTEN}
    log
    cache 30
    forward . {$UP}
}
format.test {
    bind {$LISTEN}
    log . "{type} {class} {name} {proto} {size} {rcode} {rsize} {>opcode} {>do} {>bufsize} {>rflags} {unknown}"
    forward . {$UP}
}
combined.test {
    bind {$LISTEN}
    log . {combined}
    whoami
}
denial.test {
    bind {$LISTEN}
    log {
        class denial
    }
    template IN A denial.test {
        match ^nx
        rcode NXDOMAIN
        authority "denial.test 30 IN SOA ns.t.test hostmaster.t.test 1 2 3 4 5"
        fallthrough
    }
    template IN A denial.test {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
error.test {
    bind {$LISTEN}
    log error.test {
        class error
    }
    errors
    hosts {
        192.0.2.1 a.error.test
    }
}
named.test {
    bind {$LISTEN}
    log only.named.test
    whoami
}
""",
    (
        Ask("the default line", "www.example.test", says="192.0.2.1"),
        Ask("a hit", "www.example.test", says="-asked"),
        Ask("a hit over TCP with DO", "signed.example.test", tcp=True, do=True, says="NOERROR"),
        Ask("other letters", "WWW.Example.Test", says="NOERROR"),
        Ask("NXDOMAIN", "nx.example.test", says="NXDOMAIN"),
        Ask("a format", "x.format.test", "MX", says="NXDOMAIN"),
        Ask("combined", "x.combined.test", says="NOERROR"),
        Ask(
            "class denial: NXDOMAIN",
            "nx.denial.test",
            says="NXDOMAIN",
            differs="soa-minimum",
            ours="NXDOMAIN ttl=5",
        ),
        Ask("class denial: not success", "x.denial.test", says="NOERROR"),
        Ask("class error: SERVFAIL", "b.error.test", says="SERVFAIL"),
        Ask("class error: not success", "a.error.test", says="NOERROR"),
        Ask("a name in log's scope", "only.named.test", says="NOERROR"),
        Ask("a name outside of it", "x.named.test", says="NOERROR"),
    ),
    log=True,
)

CASES = (RKE2, KUBERNETES, PLUGIN_LABELS, DNS64_LABELS, LOG)
