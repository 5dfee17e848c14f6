# SPDX-License-Identifier: Apache-2.0
"""Corefiles that a server starts with, or refuses (corefile.md 1 and 2). One word says which, for node-cache.

A row without a key of its own is the inside of a block.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Corefile:
    """`differs` names the line in docs/differences.md where fastdns is to do otherwise."""

    look: str
    text: str
    starts: bool
    differs: str = ""

    @property
    def whole(self) -> str:
        """With a block around it where there is none."""
        if self.text.startswith(("#", ".", "(", "import", "a.test", "tls:", "quic:", "https:", "{", '"')):
            return self.text
        return f". {{\n    bind {{$LISTEN}}\n    {self.text}\n}}\n"


def good(look: str, text: str, differs: str = "") -> Corefile:
    return Corefile(look, text, True, differs)


def bad(look: str, text: str, differs: str = "") -> Corefile:
    return Corefile(look, text, False, differs)


BIND = "bind {$LISTEN}"
UP = "127.0.0.1:1053"

GRAMMAR = (
    bad("a brace that sticks to the key", f".:1053{{\n{BIND}\nwhoami\n}}\n"),
    good("a brace on a line of its own", f".\n{{\n{BIND}\nwhoami\n}}\n"),
    bad("a block that doesn't end", f". {{\n{BIND}\nwhoami\n"),
    good("a stray brace behind a block", f". {{\n{BIND}\nwhoami\n}}\n}}\n", "stray-brace"),
    bad("a word that is no directive", "nothing"),
    bad("a directive that isn't compiled in", "kubernetes cluster.local"),
    bad("ready", "ready", "ready"),
    bad("the same block twice", f". {{\n{BIND}\nwhoami\n}}\n. {{\n{BIND}\nwhoami\n}}\n"),
    bad("the same key twice", f". . {{\n{BIND}\nwhoami\n}}\n"),
    bad("bound, and not bound", f". {{\n{BIND}\nwhoami\n}}\n. {{\nwhoami\n}}\n"),
    good("the same zone at another address", f". {{\n{BIND}\nwhoami\n}}\n. {{\nbind ::1\nwhoami\n}}\n"),
    bad("an empty label", f"a.test..b {{\n{BIND}\n}}\n"),
    bad("a port without digits", f"a.test: {{\n{BIND}\n}}\n"),
    bad("a port that is too large", f"a.test:70000 {{\n{BIND}\n}}\n"),
    bad("a comma before the brace", f"a.test, {{\n{BIND}\n}}\n"),
    good("keys that end in commas", f"a.test,\n b.test {{\n{BIND}\n}}\n"),
    bad("an import that isn't there", "import nothing.conf"),
    good("a glob without a match", "import nothing-*.conf"),
    bad("import with two words", "import a b"),
    bad("a snippet twice", f"(a) {{\nwhoami\n}}\n(a) {{\nlog\n}}\n. {{\n{BIND}\n}}\n"),
    good("a snippet that nobody imports", f"(a) {{\nnothing\n}}\n. {{\n{BIND}\nwhoami\n}}\n"),
    bad("a snippet that is defined later", f". {{\n{BIND}\nimport a\n}}\n(a) {{\nwhoami\n}}\n"),
    bad("a quote that doesn't end", f'. {{\n{BIND}\nlog . "{{type}}\n}}\n'),
    good("a block without directives", f". {{\n{BIND}\n}}\n"),
    bad("an option on its directive's line", f"forward . {UP} {{ force_tcp }}"),
    good("an option on the brace's line", f"forward . {UP} {{ force_tcp\n}}"),
    bad("an option that isn't one", f"forward . {UP} {{\nforce_udp\n}}"),
    good("letters in a zone's upper case", f"a.test.EXAMPLE {{\n{BIND}\nwhoami\n}}\n"),
)  # fmt: skip

PLUGINS = (
    bad("cache 0", "cache 0"),
    bad("cache -1", "cache -1"),
    good("cache with zones", "cache 30 a.test b.test"),
    bad("cache twice", "cache\ncache"),
    bad("cache: an unknown option", "cache {\nfailure 10\n}"),
    bad("cache success without a capacity", "cache {\nsuccess\n}"),
    bad("cache success: not a number", "cache {\nsuccess many\n}"),
    bad("cache success: TTL 0", "cache {\nsuccess 100 0\n}"),
    good("cache success: floor 0", "cache {\nsuccess 100 30 0\n}"),
    bad("cache success: floor -1", "cache {\nsuccess 100 30 -1\n}"),
    good("cache success: four words", "cache {\nsuccess 100 30 5 5\n}", "extra-words"),
    good("cache prefetch", "cache {\nprefetch 10 1m 10%\n}"),
    bad("cache prefetch without %", "cache {\nprefetch 10 1m 10\n}"),
    bad("cache prefetch 5%", "cache {\nprefetch 10 1m 5%\n}"),
    bad("cache prefetch 95%", "cache {\nprefetch 10 1m 95%\n}"),
    bad("cache prefetch -1", "cache {\nprefetch -1\n}"),
    bad("cache prefetch: a bare number as time", "cache {\nprefetch 10 60\n}"),
    good("cache serve_stale", "cache {\nserve_stale\n}"),
    good("cache serve_stale 1h VERIFY", "cache {\nserve_stale 1h VERIFY\n}"),
    bad("cache serve_stale later", "cache {\nserve_stale 1h later\n}"),
    bad("cache serve_stale -1h", "cache {\nserve_stale -1h\n}"),
    bad("cache servfail 6m", "cache {\nservfail 6m\n}"),
    good("cache servfail 5m", "cache {\nservfail 5m\n}"),
    bad("cache servfail 5", "cache {\nservfail 5\n}"),
    bad("cache disable nothing", "cache {\ndisable\n}"),
    bad("cache disable prefetch", "cache {\ndisable prefetch\n}"),
    bad("cache keepttl yes", "cache {\nkeepttl yes\n}"),
    bad("forward without TO", "forward ."),
    bad("forward to a host name", "forward . dns.example"),
    bad("forward to https", "forward . https://127.0.0.1", "newer-coredns"),
    bad("forward to an address of five parts", "forward . 1.2.3.4.5"),
    good("forward to 15", "forward . " + " ".join(f"127.0.0.{n}" for n in range(1, 16))),
    bad("forward to 16", "forward . " + " ".join(f"127.0.0.{n}" for n in range(1, 17))),
    good("forward to IPv6 with a port", "forward . [::1]:1053"),
    good("forward to bare IPv6", "forward . ::1"),
    good("forward by TLS", f"forward . tls://{UP} {{\ntls_servername a.test\n}}"),
    bad("forward: policy", f"forward . {UP} {{\npolicy nearest\n}}"),
    bad("forward: policy fastest", f"forward . {UP} {{\npolicy fastest\n}}", "policy-fastest"),
    bad("forward: max_fails -1", f"forward . {UP} {{\nmax_fails -1\n}}"),
    bad("forward: expire -1s", f"forward . {UP} {{\nexpire -1s\n}}"),
    bad("forward: expire 10", f"forward . {UP} {{\nexpire 10\n}}"),
    bad("forward: max_concurrent -1", f"forward . {UP} {{\nmax_concurrent -1\n}}"),
    bad("forward: force_tcp yes", f"forward . {UP} {{\nforce_tcp yes\n}}"),
    bad("forward: next with a bad rcode", f"forward . {UP} {{\nnext NOTHING\n}}"),
    bad("forward: failover NOERROR", f"forward . {UP} {{\nfailover NOERROR\n}}"),
    bad("forward: health_check -1s", f"forward . {UP} {{\nhealth_check -1s\n}}"),
    good("forward: health_check 1s no_rec domain a.test", f"forward . {UP} {{\nhealth_check 1s no_rec domain a.test\n}}"),
    bad("forward: health_check 1s often", f"forward . {UP} {{\nhealth_check 1s often\n}}"),
    bad("forward: except alone", f"forward . {UP} {{\nexcept\n}}"),
    bad("forward: tls with four words", f"forward . {UP} {{\ntls a b c d\n}}"),
    bad("bind alone", "bind"),
    bad("bind to no interface", "bind nothing0"),
    good("bufsize 512", "bufsize 512"),
    bad("bufsize 511", "bufsize 511"),
    bad("bufsize 4097", "bufsize 4097"),
    bad("bufsize many", "bufsize many"),
    bad("debug with a word", "debug yes"),
    good("errors", "errors"),
    good("errors stdout", "errors stdout"),
    bad("errors to a file", "errors /tmp/errors"),
    good("errors consolidate", 'errors {\nconsolidate 5m ".* i/o timeout$" warning\n}'),
    bad("errors consolidate: bad regex", 'errors {\nconsolidate 5m "("\n}'),
    bad("errors consolidate: bad level", 'errors {\nconsolidate 5m "a" loud\n}'),
    bad("errors consolidate: two words are wanted", "errors {\nconsolidate 5m\n}"),
    bad("health with two addresses", "health 127.0.0.1:0 127.0.0.1:0"),
    bad("health without a colon", "health 8080"),
    bad("health: lameduck 5", "health 127.0.0.1:0 {\nlameduck 5\n}"),
    bad("health: slow", "health 127.0.0.1:0 {\nslow\n}"),
    bad("hosts: ttl 0", "hosts {\n127.0.0.1 a\nttl 0\n}"),
    bad("hosts: ttl 65536", "hosts {\n127.0.0.1 a\nttl 65536\n}"),
    bad("hosts: reload -1s", "hosts {\nreload -1s\n}"),
    bad("hosts: an unknown word behind fallthrough", "hosts {\nfallthrough\n127.0.0.1 a\n}"),
    good("hosts: a file that isn't there", "hosts /nothing/hosts"),
    good("hosts: a folder", "hosts /tmp"),
    bad("hosts twice", "hosts\nhosts"),
    bad("log: bad class", "log {\nclass often\n}"),
    bad("log: unknown option", "log {\nformat a\n}"),
    good("log twice", "log a.test\nlog b.test"),
    bad("loop with a word", "loop twice"),
    bad("loop twice", "loop\nloop"),
    good("loadbalance round_robin", "loadbalance round_robin"),
    bad("loadbalance least_loaded", "loadbalance least_loaded"),
    bad("loadbalance weighted without a file", "loadbalance weighted"),
    bad("prometheus with two addresses", "prometheus 127.0.0.1:0 127.0.0.1:0"),
    bad("prometheus twice", "prometheus 127.0.0.1:0\nprometheus 127.0.0.1:0"),
    bad("pprof with two addresses", "pprof 127.0.0.1:0 127.0.0.1:0"),
    bad("reload 1s", "reload 1s"),
    good("reload 2s 1s", "reload 2s 1s"),
    bad("reload 30s 0s", "reload 30s 0s", "newer-coredns"),
    bad("reload soon", "reload soon"),
    bad("timeouts without options", "timeouts"),
    good("timeouts: a bare number", "timeouts {\nread 5\n}"),
    bad("timeouts: below 1 s", "timeouts {\nread 10ms\n}"),
    bad("timeouts: above 24 h", "timeouts {\nidle 25h\n}"),
    bad("timeouts: unknown", "timeouts {\nconnect 5s\n}"),
    good("trace", "trace zipkin 127.0.0.1:9411"),
    bad("trace elsewhere", "trace jaeger 127.0.0.1:9411"),
    good("trace: every 0", "trace {\nevery 0\n}"),
    bad("trace: client_server", "trace {\nclient_server perhaps\n}"),
    bad("whoami with a word", "whoami a"),
    bad("dns64 with a prefix of 95 bits", "dns64 64:ff9b::/95"),
    bad("dns64 with an IPv4 prefix", "dns64 10.0.0.0/8"),
    good("dns64 with options", "dns64 {\nprefix fd00::/64\ntranslate_all\nallow_ipv4\n}"),
    bad("dns64: unknown", "dns64 {\ntranslate_some\n}"),
    bad("template without a type", "template IN"),
    bad("template: bad class", "template INN A {\nanswer \"a\"\n}"),
    bad("template: bad type", "template IN AAAAA {\nanswer \"a\"\n}"),
    bad("template: bad regex", 'template IN A {\nmatch "("\n}'),
    bad("template: bad template", 'template IN A {\nanswer "{{ .Name"\n}'),
    bad("template: bad rcode", "template IN A {\nrcode NOTHING\n}"),
    bad("template: unknown", "template IN A {\nreply a\n}"),
    bad("template: a second rcode", "template IN A {\nrcode NXDOMAIN\nrcode REFUSED NOERROR\n}"),
    bad("template: ederror without a code", "template IN A {\nederror\n}"),
    bad("template: ederror of a word", "template IN A {\nederror blocked\n}"),
    bad("rewrite alone", "rewrite"),
    bad("rewrite of nothing known", "rewrite color red blue"),
    bad("rewrite name with one word", "rewrite name a.test"),
    bad("rewrite name: bad regex", "rewrite name regex ( a.test"),
    good("rewrite name: words behind answer auto", "rewrite name suffix a.test b.test answer auto"),
    bad("rewrite name: a bad answer", "rewrite name suffix a.test b.test answer never"),
    bad("rewrite name exact with answer name", "rewrite name exact a.test b.test answer"),
    bad("rewrite type: unknown", "rewrite type AAAAA A"),
    bad("rewrite class: unknown", "rewrite class INN CH"),
    bad("rewrite ttl: not a number", "rewrite ttl a.test soon"),
    bad("rewrite ttl: -1", "rewrite ttl a.test --1"),
    bad("rewrite rcode: unknown", "rewrite rcode a.test NOTHING NOERROR"),
    bad("rewrite rcode 99", "rewrite rcode a.test 99 0"),
    bad("rewrite edns0: unknown", "rewrite edns0 cookie set"),
    bad("rewrite edns0 local: code", "rewrite edns0 local set many a"),
    bad("rewrite edns0 local: bad hexadecimal", "rewrite edns0 local set 65001 0xzz"),
    bad("rewrite edns0 local: unknown variable", "rewrite edns0 local set 65001 {color}"),
    bad("rewrite edns0 subnet: 33 bits", "rewrite edns0 subnet set 33 56"),
    good("rewrite edns0 subnet", "rewrite edns0 subnet set 24 56"),
    bad("rewrite edns0 nsid with a word", "rewrite edns0 nsid set a"),
    bad("rewrite cname with one word", "rewrite cname a.test"),
    bad("rewrite with a bad word for going on", "rewrite next name a.test b.test"),
)  # fmt: skip

COREFILES = GRAMMAR + PLUGINS
