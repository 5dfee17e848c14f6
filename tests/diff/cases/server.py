# SPDX-License-Identifier: Apache-2.0
"""Server blocks: which block gets a name; REFUSED; what comes before any plugin (corefile.md 1.2 to 1.4, 5)."""

from tests.diff.pairs import Ask, Case
from tests.wiretools import header, labels, opt, option, question, record

_WWW = labels(b"www", b"example", b"test")
_PLAIN = question(_WWW)

ZONES = Case(
    "zones",
    """
example.test:{$PORT} {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT parent"
    }
}
sub.example.test {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT sub"
    }
}
other.test, third.test {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT {{ .Zone }}"
    }
}
a.b.c.d.test {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT deep"
    }
}
10.0.4.0/22 {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT ten"
    }
}
192.0.2.0/24 {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT octet"
    }
}
2001:db8::/32 {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT six"
    }
}
fd00:10::/30 {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT thirty"
    }
}
only-a-key.test {
    bind {$LISTEN}
}
Capital.TEST {
    bind {$LISTEN}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT capital"
    }
}
""".replace(":{$PORT}", ""),
    (
        Ask("a name in a block's zone", "www.example.test", "TXT", says="NOERROR parent"),
        Ask("the zone's own name", "example.test", "TXT", says="NOERROR parent"),
        Ask("the longest zone wins", "x.sub.example.test", "TXT", says="NOERROR sub"),
        Ask("the longer zone's own name", "sub.example.test", "TXT", says="NOERROR sub"),
        Ask("a label that only ends alike is outside", "notsub.example.test", "TXT", says="parent"),
        Ask("outside of every zone", "notexample.test", "TXT", says="REFUSED question"),
        Ask("above every zone", "test", "TXT", says="REFUSED"),
        Ask("the root, where no block has it", ".", "TXT", says="REFUSED"),
        Ask("REFUSED echoes the OPT", "nowhere.invalid", edns=1400, says="REFUSED opt"),
        Ask("REFUSED over TCP", "nowhere.invalid", tcp=True, says="REFUSED"),
        Ask("REFUSED keeps RD and CD", "nowhere.invalid", rd=False, cd=True, says="REFUSED -rd cd"),
        Ask("letters' case doesn't choose the block", "WwW.SuB.ExAmPlE.TeSt", "TXT", says="NOERROR sub"),
        Ask("DS goes to the parent's block", "sub.example.test", "DS", says="parent"),
        Ask("DS below it, too", "x.sub.example.test", "DS", says="parent"),
        Ask("DS with no parent among the blocks", "other.test", "DS", says="other.test."),
        Ask("first of a block's keys", "x.other.test", "TXT", says="other.test."),
        Ask("second of a block's keys", "x.third.test", "TXT", says="third.test."),
        Ask("a zone of five labels", "x.a.b.c.d.test", "TXT", says="deep"),
        Ask("one label less than the zone", "b.c.d.test", "TXT", says="REFUSED"),
        Ask("a CIDR key on an octet", "7.2.0.192.in-addr.arpa", "PTR", says="NOERROR octet"),
        Ask("beside it", "7.3.0.192.in-addr.arpa", "PTR", says="REFUSED"),
        Ask("/22: the first of four zones", "1.4.0.10.in-addr.arpa", "PTR", says="ten"),
        Ask("/22: the last of four zones", "1.7.0.10.in-addr.arpa", "PTR", says="ten"),
        Ask("/22: the one after", "1.8.0.10.in-addr.arpa", "PTR", says="REFUSED"),
        Ask("/22: the one before", "1.3.0.10.in-addr.arpa", "PTR", says="REFUSED"),
        Ask("IPv6 CIDR on a nibble", "1.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", says="six"),
        Ask("beside it", "9.b.d.0.1.0.0.2.ip6.arpa", "PTR", says="REFUSED"),
        Ask("/30: the last of four zones", "3.1.0.0.0.0.d.f.ip6.arpa", "PTR", says="thirty"),
        Ask("/30: below the first of four", "f.0.1.0.0.0.0.d.f.ip6.arpa", "PTR", says="thirty"),
        Ask("/30: the one after", "4.1.0.0.0.0.d.f.ip6.arpa", "PTR", says="REFUSED"),
        Ask("a block without plugins refuses", "x.only-a-key.test", says="REFUSED"),
        Ask(
            "capital letters in a key",
            "x.capital.test",
            "TXT",
            says="REFUSED",
            differs="capital-keys",
            ours="NOERROR capital",
        ),
        Ask("a class without forward", "www.example.test", "TXT", qclass="CH", says="REFUSED"),
    ),
    default=True,
)

DIALECT = Case(
    "corefile-dialect",
    """\ufeff# a comment, and a byte order mark before it
(answers) {
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT snippet"
    }
}
quoted.test
{
    bind {$LISTEN}\t
    template IN TXT "quoted.test" {
        answer "{{ .Name }} 60 IN TXT \\"two words\\""
    }
}
snippet.test { # a comment behind a brace
    bind {$LISTEN}
    import answers
}
imported.test {
    bind {$LISTEN}
    import {$DIR}/answer.conf
}
globbed.test {
    bind {$LISTEN}
    import {$DIR}/glob-*.conf
    import {$DIR}/none-*.conf
}
{$UNSET}environment.test {
    bind {%LISTEN%}
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT {$WORD}{$UNSET}end"
    }
}
one.test,
two.test {
    bind {$LISTEN}
    import answers
}
comment.test {
    bind {$LISTEN}#the-rest-is-a-comment
    template ANY ANY {
        answer "{{ .Name }} 60 IN TXT #quoted"
    }
}
import {$DIR}/block.conf
""".replace("\n(answers)", "\r\n(answers)"),
    (
        Ask("quotes within quotes; the brace on a line of its own", "x.quoted.test", "TXT", says="two"),
        Ask("a snippet", "x.snippet.test", "TXT", says="snippet"),
        Ask("an imported file", "x.imported.test", "TXT", says="file"),
        Ask("a glob; one without a match is nothing", "x.globbed.test", "TXT", says="globbed"),
        Ask("the environment in keys, addresses and quotes", "x.environment.test", "TXT", says="end"),
        Ask("keys over two lines", "x.two.test", "TXT", says="snippet"),
        Ask("a comment in the middle of a word, none in quotes", "x.comment.test", "TXT", says="#quoted"),
        Ask("a block from an imported file", "x.block.test", "TXT", says="block"),
    ),
    files={
        "answer.conf": 'template ANY ANY {\n    answer "{{ .Name }} 60 IN TXT file"\n}\n',
        "glob-1.conf": 'template ANY ANY {\n    answer "{{ .Name }} 60 IN TXT globbed"\n}\n',
        "block.conf": "block.test {\n    bind {$LISTEN}\n    template ANY ANY {\n"
        '        answer "{{ .Name }} 60 IN TXT block"\n    }\n}\n',
    },
)

NO_BRACES = Case(
    "no-braces",
    'example.test\nbind {$LISTEN}\ntemplate ANY ANY {\n    answer "{{ .Name }} 60 IN TXT bare"\n}\n',
    (
        Ask("a file with a single block and no braces", "x.example.test", "TXT", says="bare"),
        Ask("outside", "x.test", "TXT", says="REFUSED"),
    ),
)

EMPTY = Case(
    "empty-file",
    "# nothing\n",
    (
        Ask(
            "no block at all: whoami on the default port", "x.test", says="NOERROR aa answers=0 additional=2"
        ),
        Ask("the same by IPv6", "x.test", v6=True, says="NOERROR extra=::1"),
    ),
)

PACKETS = Case(
    "packets",
    """
. {
    bind {$LISTEN}
    forward . {$UP}
}
""",
    (
        Ask("opcode STATUS", "www.example.test", opcode="STATUS", says="NOTIMP -question"),
        Ask("opcode UPDATE", "www.example.test", opcode="UPDATE", says="NOTIMP"),
        Ask("opcode NOTIFY", "www.example.test", opcode="NOTIFY", says="NOERROR",
            differs="notify", ours="NOTIMP"),
        Ask("opcode 6", "x", wire=header(flags=0x3100) + _PLAIN, says="NOTIMP"),
        Ask("opcode 15 over TCP", "x", wire=header(flags=0x7900) + _PLAIN, tcp=True, says="NOTIMP"),
        Ask("QR set", "x", wire=header(flags=0x8100) + _PLAIN, says="SILENCE"),
        Ask("less than 12 octets", "x", wire=b"\x12\x34\1\0\0\1\0\0\0\0\0", says="SILENCE"),
        Ask("no question", "x", wire=header(qd=0), says="FORMERR"),
        Ask("two questions", "x", wire=header(qd=2) + _PLAIN + _PLAIN, says="FORMERR"),
        Ask("two records in the answer section", "x",
            wire=header(an=2) + _PLAIN + record(_WWW, 1, bytes(4)) * 2, says="FORMERR"),
        Ask("one record in the answer section", "x", wire=header(an=1) + _PLAIN + record(_WWW, 1, bytes(4)),
            says="NOERROR", differs="record-in-query", ours="FORMERR"),
        Ask("one record in the authority section", "x",
            wire=header(ns=1) + _PLAIN + record(_WWW, 1, bytes(4)),
            says="NOERROR", differs="record-in-query", ours="FORMERR"),
        Ask("two records in the authority section", "x",
            wire=header(ns=2) + _PLAIN + record(_WWW, 1, bytes(4)) * 2, says="FORMERR"),
        Ask("three records in the additional section", "x",
            wire=header(ar=3) + _PLAIN + record(_WWW, 1, bytes(4)) * 3, says="FORMERR"),
        Ask("octets after the last record", "x", wire=header() + _PLAIN + b"\0\0\0",
            says="NOERROR", differs="trailing-octets", ours="FORMERR"),
        Ask("counts larger than the content", "x", wire=header(ar=1) + _PLAIN,
            says="NOERROR", differs="counts-too-large", ours="FORMERR"),
        Ask("the question cut off after the type", "x", wire=header() + _WWW + b"\0\1",
            differs="cut-question", ours="FORMERR"),
        Ask("the name cut off", "x", wire=header() + b"\3ww", says="FORMERR"),
        Ask("a label of 64 octets", "x", wire=header() + question(b"\x40" + b"a" * 64 + b"\0"), says="FORMERR"),
        Ask("a name of more than 255 octets", "x",
            wire=header() + question(labels(*[b"a" * 63] * 4, b"bb")), says="FORMERR"),
        Ask("the message ends after the header", "x", wire=header(), says="SERVFAIL",
            differs="header-only", ours="FORMERR"),
        Ask("a compressed qname", "x", wire=header() + question(b"\xc0\x0c"), says="FORMERR"),
        Ask("two OPTs", "x", wire=header(ar=2) + _PLAIN + opt() * 2,
            says="NOERROR", differs="two-opts", ours="FORMERR"),
        Ask("an OPT that isn't the root's", "x", wire=header(ar=1) + _PLAIN + record(_WWW, 41, b"", rdclass=1232),
            says="NOERROR", differs="opt-owner", ours="FORMERR"),
        Ask("an option longer than the OPT", "x",
            wire=header(ar=1) + _PLAIN + opt(options=b"\0\x0a\0\x20abc"), says="FORMERR"),
        Ask("EDNS version 1", "www.example.test", edns=1232, version=1, says="BADVERS version=0 -records"),
        Ask("EDNS version 1 with DO", "www.example.test", edns=1232, version=1, do=True, says="BADVERS"),
        Ask("EDNS version 255 over TCP", "www.example.test", edns=1232, version=255, tcp=True, says="BADVERS"),
        Ask("the Z bit", "x", wire=header(flags=0x0140) + _PLAIN, says="NOERROR -z"),
        Ask("TC in a query", "x", wire=header(flags=0x0300) + _PLAIN, says="NOERROR -tc"),
        Ask("RA in a query", "x", wire=header(flags=0x0180) + _PLAIN, says="NOERROR"),
        Ask("an rcode in a query", "x", wire=header(flags=0x0103) + _PLAIN, says="NOERROR"),
        Ask("AA in a query", "x", wire=header(flags=0x0500) + _PLAIN, says="NOERROR -aa"),
        Ask("more than 512 octets over UDP", "x",
            wire=header(ar=1) + _PLAIN + opt(options=option(12, bytes(600))),
            says="FORMERR", differs="large-query", ours="NOERROR"),
        Ask("more than 512 octets over TCP", "x",
            wire=header(ar=1) + _PLAIN + opt(options=option(12, bytes(600))), tcp=True, says="NOERROR"),
        Ask("type AXFR", "example.test", "AXFR", differs="transfers", ours="REFUSED"),
        Ask("type IXFR", "example.test", "IXFR", differs="transfers", ours="REFUSED"),
        Ask("type OPT", "www.example.test", "OPT", differs="qtype-opt", ours="FORMERR"),
        Ask("type 0", "www.example.test", "TYPE0"),
        Ask("class ANY", "www.example.test", qclass="ANY", differs="class-any", ours="REFUSED"),
        Ask("class NONE", "www.example.test", qclass="NONE", differs="class-any", ours="REFUSED"),
        Ask("class CH behind forward", "class.example.test", "TXT", qclass="CH", says="NOERROR class asked"),
        Ask("a name of 255 octets", ".".join(["a" * 63] * 3 + ["b" * 61]), says="NXDOMAIN"),
        Ask("a label of odd octets", "a\\000\\255\\.b.example.test", says="NXDOMAIN"),
        Ask("the root", ".", "SOA", says="NXDOMAIN asked"),
    ),
)  # fmt: skip

CASES = (ZONES, DIALECT, NO_BRACES, EMPTY, PACKETS)
