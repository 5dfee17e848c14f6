# SPDX-License-Identifier: Apache-2.0
"""cache (corefile.md 2.1)."""

from tests.diff.pairs import Ask, Case

DEFAULTS = Case(
    "cache-defaults",
    """
. {
    bind {$LISTEN}
    prometheus {$METRICS}
    cache
    forward . {$UP}
}
""",
    (
        Ask("a miss", "count.example.test", says="NOERROR 192.0.2.1 ttl=300 asked=UP"),
        Ask("a hit: AA, no question upstream", "count.example.test", says="NOERROR aa 192.0.2.1 ttl=300 -asked"),
        Ask("a hit counts down", "count.example.test", wait=2.0, says="ttl=298 -asked"),
        Ask("a hit in other letters", "CoUnT.eXaMpLe.TeSt", says="aa 192.0.2.1 -asked"),
        Ask("a hit over TCP", "count.example.test", tcp=True, says="192.0.2.1 -asked"),
        Ask("a hit with OPT", "count.example.test", edns=1232, says="192.0.2.1 opt -asked"),
        Ask("DO is another entry", "count.example.test", do=True, says="192.0.2.2 do asked"),
        Ask("CD is another entry", "count.example.test", cd=True, says="192.0.2.3 cd asked"),
        Ask("CD and DO is a fourth", "count.example.test", cd=True, do=True, says="192.0.2.4 asked"),
        Ask("AD is none", "count.example.test", ad=True, says="192.0.2.1 -asked"),
        Ask("a hit on the entry with DO", "count.example.test", do=True, says="192.0.2.2 do -asked"),
        Ask("RD=0 is answered from the cache", "count.example.test", rd=False, says="-rd 192.0.2.1 -asked"),
        Ask("NOTIFY is answered from the cache", "count.example.test", opcode="NOTIFY", says="192.0.2.1 -asked",
            differs="notify", ours="NOTIMP -asked"),
        Ask("a text", "class.example.test", "TXT", says="class asked"),
        Ask("class CH from the entry of IN", "class.example.test", "TXT", qclass="CH", says="class -asked",
            differs="class-in-key", ours="NOERROR class asked"),
        Ask("one TTL for all records: the lowest", "mixed.example.test", says="ttl=10 answers=2 authority=1"),
        Ask("an additional record counts", "low-additional.example.test", says="ttl=7"),
        Ask("TTL 0 is raised to 5", "ttl0.example.test", says="ttl=5 192.0.2.1"),
        Ask("and kept", "ttl0.example.test", says="ttl=5 192.0.2.1 -asked"),
        Ask("TTL 2 is raised to 5", "ttl2.example.test", says="ttl=5 192.0.2.1"),
        Ask("no more than an hour", "ttl7200.example.test", says="ttl=3600"),
        Ask("the top bit of a TTL", "ttl-high.example.test",
            differs="ttl-high", ours="NOERROR"),
        Ask("NXDOMAIN", "nx.example.test", says="NXDOMAIN ttl=60 soa"),
        Ask("NXDOMAIN from the cache", "nx.example.test", says="NXDOMAIN aa ttl=60 soa -asked"),
        Ask("NODATA", "www.example.test", "MX", says="NOERROR answers=0 soa ttl=60"),
        Ask("NODATA from the cache", "www.example.test", "MX", says="NOERROR aa answers=0 soa ttl=60 -asked"),
        Ask("NODATA of one type leaves the other", "www.example.test", says="192.0.2.1 asked"),
        Ask("NXDOMAIN: half an hour at most", "nx-long.example.test", says="NXDOMAIN ttl=1800"),
        Ask("NXDOMAIN: 5 s at least", "nx-short.example.test", says="NXDOMAIN ttl=5"),
        Ask("the SOA's MINIMUM", "nx-minimum.example.test", says="NXDOMAIN ttl=300",
            differs="soa-minimum", ours="NXDOMAIN ttl=20"),
        Ask("the SOA's MINIMUM for NODATA", "nodata-minimum.example.test", says="ttl=300",
            differs="soa-minimum", ours="NOERROR ttl=20"),
        Ask("NXDOMAIN behind an alias", "nx-cname.example.test", says="NXDOMAIN cname soa ttl=60"),
        Ask("and from the cache", "nx-cname.example.test", says="NXDOMAIN cname soa -asked"),
        Ask("NODATA behind an alias", "nodata-cname.example.test", says="NOERROR cname soa"),
        Ask("NODATA behind an alias from the cache", "nodata-cname.example.test", says="cname soa -asked"),
        Ask("NXDOMAIN without SOA", "nx-no-soa.example.test", says="NXDOMAIN -records"),
        Ask("isn't kept", "nx-no-soa.example.test", says="NXDOMAIN asked"),
        Ask("its alias has the floor's TTL", "nx-no-soa-cname.example.test", says="NXDOMAIN cname ttl=5 asked"),
        Ask("isn't kept either", "nx-no-soa-cname.example.test", says="NXDOMAIN asked"),
        Ask("NODATA without SOA", "nodata-no-soa.example.test", says="NOERROR -records asked"),
        Ask("is kept for 5 s", "nodata-no-soa.example.test", says="NOERROR -asked"),
        Ask("a referral", "referral.example.test", says="NOERROR ns answers=0 ttl=5"),
        Ask("a referral is kept for 5 s", "referral.example.test", says="NOERROR -asked"),
        Ask("only additional records", "only-additional.example.test", says="NOERROR additional=1"),
        Ask("only additional records, again", "only-additional.example.test", says="NOERROR -asked"),
        Ask("an alias and its addresses", "chain.example.test", says="answers=4 ttl=100"),
        Ask("in the same order from the cache", "chain.example.test", says="answers=4 -asked"),
        Ask("a dangling alias", "dangling.example.test", says="NOERROR cname answers=1"),
        Ask("authority and additional", "glue.example.test", says="authority=1 additional=1"),
        Ask("both from the cache", "glue.example.test", says="authority=1 additional=1 -asked"),
        Ask("AA from upstream", "aa.example.test", says="aa"),
        Ask("RA as upstream had it", "no-ra.example.test", says="-ra", differs="ra", ours="ra"),
        Ask("RA as upstream had it, from the cache", "no-ra.example.test", says="-ra -asked",
            differs="ra", ours="ra -asked"),
        Ask("MX in order", "mail.example.test", "MX", says="answers=3"),
        Ask("SRV with an address", "_http._tcp.example.test", "SRV", says="answers=2 additional=1"),
        Ask("CAA", "caa.example.test", "CAA", says="issue"),
        Ask("HTTPS", "svc.example.test", "HTTPS", says="alpn"),
        Ask("an unknown type", "odd.example.test", "TYPE65280", says="01020304"),
        Ask("type ANY", "any.example.test", "ANY", says="answers=2"),
        Ask("DS", "sub.example.test", "DS", says="12345"),
    ),
    default=True,
    metrics=True,
)  # fmt: skip

FAILURES = Case(
    "cache-failures",
    """
. {
    bind {$LISTEN}
    cache 30
    forward . {$UP}
}
""",
    (
        Ask("SERVFAIL from upstream", "servfail.example.test", says="SERVFAIL asked"),
        Ask("is kept for 5 s", "servfail.example.test", wait=1.0, says="SERVFAIL -asked"),
        Ask("SERVFAIL with SOA", "servfail-soa.example.test", says="SERVFAIL asked"),
        Ask("is kept as well", "servfail-soa.example.test", says="SERVFAIL -asked"),
        Ask("NOTIMP from upstream", "notimp.example.test", says="NOTIMP asked", unsteady=True),
        Ask("is kept as well", "notimp.example.test", says="NOTIMP -asked"),
        Ask("REFUSED from upstream", "refused.example.test", says="REFUSED asked"),
        Ask("isn't kept", "refused.example.test", says="NOERROR 192.0.2.2 asked"),
        Ask("FORMERR from upstream", "formerr.example.test", says="FORMERR asked"),
        Ask("isn't kept", "formerr.example.test", says="NOERROR 192.0.2.2 asked"),
        Ask("YXDOMAIN from upstream", "yxdomain.example.test", says="YXDOMAIN asked"),
        Ask("isn't kept", "yxdomain.example.test", says="NOERROR 192.0.2.2 asked"),
        Ask("records in REFUSED have 5 s", "refused-cname.example.test", says="REFUSED cname ttl=5"),
        Ask("no upstream answers, which isn't kept: first", "silent-once.example.test", says="NOERROR",
            unsteady=True),
        Ask("5 s later the SERVFAIL is over", "servfail.example.test", wait=4.8, says="NOERROR 192.0.2.2"),
        Ask("a reply to another question", "other-question.example.test", says="FORMERR",
            differs="mismatched-reply", ours="SERVFAIL", unsteady=True),
        Ask("a reply to another type", "other-type.example.test", says="FORMERR",
            differs="mismatched-reply", ours="SERVFAIL", unsteady=True),
        Ask("QR clear in a reply", "no-qr.example.test", says="FORMERR",
            differs="mismatched-reply", ours="SERVFAIL", unsteady=True),
        Ask("a reply without a question", "no-question.example.test", says="FORMERR",
            differs="mismatched-reply", ours="SERVFAIL", unsteady=True),
    ),
)  # fmt: skip

TRUNCATED = Case(
    "cache-truncated",
    """
. {
    bind {$LISTEN}
    cache 30
    forward . {$UP}
}
""",
    (
        Ask("TC from upstream", "tc.example.test", edns=4096, says="tc answers=0",
            differs="upstream-tc", ours="-tc answers=40"),
        Ask("isn't kept", "tc.example.test", edns=4096, says="tc asked",
            differs="upstream-tc", ours="-tc answers=40 -asked"),
        Ask("over TCP all is there", "tc.example.test", tcp=True, says="-tc answers=40 asked",
            differs="upstream-tc", ours="-tc answers=40 -asked"),
        Ask("a part of the records with TC", "tc-part.example.test", edns=4096, says="tc answers=20 ttl=30",
            differs="upstream-tc", ours="-tc answers=40"),
        Ask("one that upstream would cut, without OPT", "many60.example.test", says="tc size<=512"),
    ),
)  # fmt: skip

CLAMPS = Case(
    "cache-clamps",
    """
cap.test, example.test {
    bind {$LISTEN}
    cache 10
    forward . {$UP}
}
www.example.test {
    bind {$LISTEN}
    cache {
        success 9984 60 20
        denial 9984 30 15
    }
    forward . {$UP}
}
ttl0.example.test {
    bind {$LISTEN}
    cache {
        success 1000 60 0
    }
    forward . {$UP}
}
ttl2.example.test {
    bind {$LISTEN}
    cache {
        success 1000 60 3
    }
    forward . {$UP}
}
ttl3.example.test {
    bind {$LISTEN}
    cache 2
    forward . {$UP}
}
ttl20.example.test {
    bind {$LISTEN}
    cache {
        success 1000
        denial 1000 7
    }
    forward . {$UP}
}
ttl7200.example.test {
    bind {$LISTEN}
    cache 7200
    forward . {$UP}
}
nx.example.test {
    bind {$LISTEN}
    cache {
        success 9984 30
        denial 9984 5
    }
    forward . {$UP}
}
nx-long.example.test {
    bind {$LISTEN}
    cache {
        denial 1000 7200 0
    }
    forward . {$UP}
}
nx-short.example.test {
    bind {$LISTEN}
    cache {
        denial 1000 60 0
    }
    forward . {$UP}
}
ttl7.example.test {
    bind {$LISTEN}
    cache 30
    forward . {$UP}
}
""",
    (
        Ask("cache 10: the cap", "count.example.test", says="ttl=10"),
        Ask("cache 10 for denial, too", "none.example.test", says="NXDOMAIN ttl=10"),
        Ask("cache 10 leaves what is below", "low-additional.example.test", says="ttl=7"),
        Ask("success's cap", "www.example.test", says="ttl=60"),
        Ask("denial's cap", "www.example.test", "MX", says="ttl=30"),
        Ask("success's floor 0: TTL 0 isn't kept", "ttl0.example.test", says="ttl=0 192.0.2.1"),
        Ask("asked again", "ttl0.example.test", says="ttl=0 192.0.2.2 asked"),
        Ask("success's floor 3", "ttl2.example.test", says="ttl=3"),
        Ask("cache 2 is below the floor: the cap wins", "ttl3.example.test", says="ttl=2"),
        Ask("and expires", "ttl3.example.test", wait=3.2, says="192.0.2.2 asked"),
        Ask("a capacity alone", "ttl20.example.test", says="ttl=20"),
        Ask("denial's cap beside it", "ttl20.example.test", "MX", says="ttl=7"),
        Ask("a cap above an hour", "ttl7200.example.test", says="ttl=3600"),
        Ask("RKE2's denial: 5", "nx.example.test", says="NXDOMAIN ttl=5"),
        Ask("RKE2's denial for NODATA", "nx.example.test", "MX", says="ttl=5"),
        Ask("denial's cap above an hour", "nx-long.example.test", says="ttl=3600"),
        Ask("denial's floor 0", "nx-short.example.test", says="ttl=2"),
        Ask("TTL 7", "ttl7.example.test", says="ttl=7 192.0.2.1"),
        Ask("one second before its end", "ttl7.example.test", wait=5.6, says="192.0.2.1 -asked"),
        Ask("after its end", "ttl7.example.test", wait=2.6, says="ttl=7 192.0.2.2 asked"),
    ),
)  # fmt: skip

OPTIONS = Case(
    "cache-options",
    """
count.example.test {
    bind {$LISTEN}
    cache {
        keepttl
    }
    forward . {$UP}
}
count-a.example.test {
    bind {$LISTEN}
    cache 30 other.test
    forward . {$UP}
}
count-b.example.test {
    bind {$LISTEN}
    cache 30 {
        disable success
    }
    forward . {$UP}
}
count-c.example.test {
    bind {$LISTEN}
    cache 30 {
        disable denial
    }
    forward . {$UP}
}
servfail.example.test {
    bind {$LISTEN}
    cache 30 {
        servfail 1s
    }
    forward . {$UP}
}
servfail-b.example.test {
    bind {$LISTEN}
    cache 30 {
        servfail 0
    }
    forward . {$UP}
}
example.test {
    bind {$LISTEN}
    cache 30 example.test sub.other.test {
        disable success two.example.test four.example.test
        disable denial nx.example.test
    }
    forward . {$UP}
}
elsewhere.test {
    bind {$LISTEN}
    cache 30 www.elsewhere.test
    forward . {$UP}
}
""",
    (
        Ask("keepttl", "count.example.test", says="ttl=300"),
        Ask("keepttl, later", "count.example.test", wait=2.2, says="ttl=300 192.0.2.1 -asked"),
        Ask("a name outside of cache's zones", "count-a.example.test", says="192.0.2.1 ttl=300"),
        Ask("isn't cached", "count-a.example.test", says="192.0.2.2 ttl=300 asked"),
        Ask("disable success", "count-b.example.test", says="192.0.2.1 ttl=30"),
        Ask("isn't cached", "count-b.example.test", says="192.0.2.2 ttl=30 asked"),
        Ask("denial is", "count-b.example.test", "MX", says="ttl=30"),
        Ask("denial is, again", "count-b.example.test", "MX", says="-asked"),
        Ask("disable denial", "count-c.example.test", "MX", says="ttl=30 asked"),
        Ask("isn't cached", "count-c.example.test", "MX", says="ttl=30 asked"),
        Ask("success is", "count-c.example.test", says="192.0.2.1"),
        Ask("success is, again", "count-c.example.test", says="192.0.2.1 -asked"),
        Ask("servfail 1s", "servfail.example.test", says="SERVFAIL asked"),
        Ask("at once", "servfail.example.test", says="SERVFAIL -asked"),
        Ask("after it", "servfail.example.test", wait=1.6, says="192.0.2.2 asked"),
        Ask("servfail 0", "servfail-b.example.test", says="SERVFAIL asked"),
        Ask("isn't kept", "servfail-b.example.test", says="192.0.2.2 asked"),
        Ask("disable success for a zone: inside", "two.example.test", says="asked"),
        Ask("inside, again", "two.example.test", says="asked"),
        Ask("inside, below its name", "x.two.example.test", says="NXDOMAIN asked"),
        Ask("only success, not denial", "x.two.example.test", says="NXDOMAIN -asked"),
        Ask("disable success for a zone: outside", "www.example.test", says="asked"),
        Ask("outside, again", "www.example.test", says="-asked"),
        Ask("disable denial for a zone", "nx.example.test", says="NXDOMAIN asked"),
        Ask("disable denial for a zone, again", "nx.example.test", says="NXDOMAIN asked"),
        Ask("cache's own zone", "www.elsewhere.test", says="198.51.100.1 ttl=30"),
        Ask("beside cache's own zone", "x.elsewhere.test", says="NXDOMAIN ttl=60"),
    ),
)

STALE = Case(
    "cache-serve-stale",
    """
changed.example.test, broken.example.test, vanished.example.test {
    bind {$LISTEN}
    cache {
        success 1000 30 1
        serve_stale
    }
    forward . {$UP}
}
ttl2.example.test, broken-b.example.test {
    bind {$LISTEN}
    cache {
        success 1000 30 1
        serve_stale 1h verify
    }
    forward . {$UP}
}
ttl1.example.test {
    bind {$LISTEN}
    cache {
        success 1000 30 1
        serve_stale 2s immediate
    }
    forward . {$UP}
}
""",
    (
        Ask("fresh", "changed.example.test", says="192.0.2.1 ttl=2"),
        Ask("fresh (verify)", "ttl2.example.test", says="192.0.2.1 ttl=2"),
        Ask("fresh (to fail)", "broken.example.test", says="192.0.2.1 ttl=2"),
        Ask("fresh (to fail, verify)", "broken-b.example.test", says="192.0.2.1 ttl=2"),
        Ask("fresh (to vanish)", "vanished.example.test", says="192.0.2.1 ttl=2"),
        Ask("fresh (2 s)", "ttl1.example.test", says="192.0.2.1 ttl=1"),
        Ask("stale at once, refreshed behind", "changed.example.test", wait=3.3, says="192.0.2.1 ttl=0 asked"),
        Ask("the refreshed answer", "changed.example.test", wait=0.3, says="192.0.2.2 ttl=30 -asked"),
        Ask("verify asks first", "ttl2.example.test", says="192.0.2.2 ttl=2 asked"),
        Ask("stale while upstream fails", "broken.example.test", says="192.0.2.1 asked"),
        Ask("verify: stale when upstream fails", "broken-b.example.test", says="192.0.2.1 asked"),
        Ask("stale, and NXDOMAIN comes behind", "vanished.example.test", says="192.0.2.1 asked"),
        Ask("NXDOMAIN from the refresh", "vanished.example.test", wait=0.3, says="NXDOMAIN -asked"),
        Ask("past serve_stale's time", "ttl1.example.test", wait=0.3, says="192.0.2.2 asked"),
    ),
)  # fmt: skip

PREFETCH = Case(
    "cache-prefetch",
    """
example.test {
    bind {$LISTEN}
    cache 30 {
        prefetch 2 1m 60%
    }
    forward . {$UP}
}
""",
    (
        Ask("first", "ttl7.example.test", says="192.0.2.1 ttl=7"),
        Ask("second: popular, not late enough", "ttl7.example.test", says="192.0.2.1 -asked"),
        Ask("third", "ttl7.example.test", says="192.0.2.1 -asked"),
        Ask("late enough: asked again behind", "ttl7.example.test", wait=6.0, says="192.0.2.1 asked",
            differs="prefetch-time", ours="192.0.2.2 asked"),
        Ask("the refreshed answer", "ttl7.example.test", wait=0.3, says="192.0.2.2 ttl=7 -asked",
            differs="prefetch-time", ours="192.0.2.2"),
    ),
)  # fmt: skip

DNSSEC = Case(
    "dnssec",
    """
. {
    bind {$LISTEN}
    cache 30
    forward . {$UP}
}
""",
    (
        Ask("DO brings signatures", "signed.example.test", do=True, says="ad rrsig do"),
        Ask("from the cache, too", "signed.example.test", do=True, says="ad rrsig do -asked"),
        Ask("without DO none", "signed.example.test", says="-ad -rrsig asked"),
        Ask("without DO none, from the cache", "signed.example.test", says="-ad -rrsig -asked"),
        Ask("AD for those who sent AD", "ad.example.test", ad=True, says="ad asked"),
        Ask("AD again from the cache", "ad.example.test", ad=True, says="ad -asked"),
        Ask("the entry of AD for one without", "ad.example.test", says="-ad -asked"),
        Ask("an entry that was made without AD", "signed.example.test", ad=True, says="-ad -asked",
            differs="ad-kept", ours="ad -asked"),
        Ask("signatures past their time", "expired.example.test", do=True, says="192.0.2.1 rrsig ttl=5 asked",
            differs="expired-signatures", ours="192.0.2.1 rrsig ttl=30 asked"),
        Ask("aren't kept", "expired.example.test", do=True, says="192.0.2.2 asked",
            differs="expired-signatures", ours="192.0.2.1 -asked"),
        Ask("CD is upstream's", "echo.example.test", "TXT", cd=True, edns=1232, says="CD"),
        Ask("RD and AD upstream", "echo.example.test", "TXT", says="RD"),
        Ask("DO upstream", "echo.example.test", "TXT", do=True, says="DO"),
    ),
)  # fmt: skip

CASES = (DEFAULTS, FAILURES, TRUNCATED, CLAMPS, OPTIONS, STALE, PREFETCH, DNSSEC)
