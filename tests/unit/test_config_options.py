# SPDX-License-Identifier: Apache-2.0
"""Every option of every plugin: values, defaults, and the exact text of each complaint."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fastdns.control.addresses import Endpoint
from fastdns.control.config import model
from fastdns.control.config.declare import Option, declarations
from fastdns.control.config.load import parse_corefile
from fastdns.control.config.model import BindAddress, Corefile, ServerBlock
from fastdns.control.config.registry import PLUGINS
from fastdns.control.config.special import LOG_COMMON
from fastdns.errors import CorefileError
from tests.certificates import Authority

DOH = "https:" + "//"  # the sources hold no address of the web

ERRORS = Path(__file__).parent.parent / "data" / "corefile-errors.txt"


def corefile(text: str, **environ: str) -> Corefile:
    return parse_corefile(text, "f", {"DOH": DOH, **environ})


def block(*lines: str) -> ServerBlock:
    return corefile("\n".join([". {", *lines, "}"])).blocks[0]


def problems(text: str) -> list[str]:
    with pytest.raises(CorefileError) as caught:
        corefile(text)
    return list(caught.value.problems)


def cases() -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    lines: list[str] = []
    for line in [*ERRORS.read_text().splitlines(), ""]:
        if line and not line.startswith("# "):
            lines.append(line)
        elif lines:
            wrong = [row[2:] for row in lines if row.startswith("! ")]
            found.append(("\n".join(row for row in lines if not row.startswith("! ")), wrong))
            lines = []
    return found


def test_cases_are_found() -> None:
    assert len(cases()) > 150


@pytest.mark.parametrize(
    ("text", "wrong"), cases(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_errors(text: str, wrong: list[str]) -> None:
    assert problems(f". {{\n{text}\n}}\n") == [f"f:{line}" for line in wrong]


def test_all_errors_are_told_at_once() -> None:
    text = "a..b {\nforword . 1.1.1.1\ncache 0\ncache {\nsucces 1\ndenial x\n}\n}\n"
    found = problems(text)
    assert [problem.split(": ")[0] for problem in found] == ["f:1", "f:2", "f:3", "f:5", "f:6", "f:4"]
    with pytest.raises(CorefileError) as caught:
        corefile(text)
    assert str(caught.value).endswith("(and 5 more: see fastdns check)")
    assert caught.value.exit_code == 2


# ---- plugins ----


def fields(plugin: Any) -> dict[str, Any]:
    """A plugin's fields, less its place and the words as they stand."""
    found = {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin)}
    return {name: value for name, value in found.items() if name != "where" and not name.endswith("words")}


@pytest.mark.parametrize(
    "name", sorted(set(PLUGINS) - {"bind", "forward", "rewrite", "template", "timeouts"})
)
def test_defaults(name: str) -> None:
    """A bare directive has the defaults of its class."""
    cls = PLUGINS[name].cls
    found = getattr(block(name), name)
    bare = cls(where=model.Position("f", 2))
    changed: dict[str, dict[str, Any]] = {
        "log": {"zones": (".",), "format": LOG_COMMON},
        "trace": {"endpoint": "localhost:9411"},
    }
    plugin = found[0] if isinstance(found, tuple) else found
    assert plugin == dataclasses.replace(bare, **changed.get(name, {}))


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("cache 30", {"ttl_s": 30}),
        (
            "cache 30 A.b 10.0.4.0/23",
            {"ttl_s": 30, "zones": ("a.b.", "4.0.10.in-addr.arpa.", "5.0.10.in-addr.arpa.")},
        ),
        ("cache a.b", {"zones": ("a.b.",)}),
        (
            "cache {\nsuccess 9984 30\ndenial 9984 5 0\n}",
            {
                "success": model.CacheClass(capacity=9984, ttl_max_s=30),
                "denial": model.CacheClass(capacity=9984, ttl_max_s=5, ttl_min_s=0),
            },
        ),
        ("cache {\nprefetch 10\n}", {"prefetch": model.Prefetch(amount=10)}),
        ("cache {\nprefetch 1 2m 20%\n}", {"prefetch": model.Prefetch(amount=1, duration_s=120, percent=20)}),
        ("cache {\nserve_stale\n}", {"serve_stale": model.ServeStale()}),
        (
            "cache {\nserve_stale 2h VERIFY 200ms 5s 30s\n}",
            {"serve_stale": model.ServeStale(duration_s=7200, mode="verify", times_s=(0.2, 5.0, 30.0))},
        ),
        ("cache {\nservfail 0\nkeepttl\n}", {"servfail_s": 0.0, "keepttl": True}),
        (
            "cache {\ndisable success a b\ndisable denial\n}",
            {
                "disable": (
                    model.CacheDisable(what="success", zones=("a.", "b.")),
                    model.CacheDisable(what="denial"),
                )
            },
        ),
    ],
)
def test_cache(lines: str, changed: dict[str, Any]) -> None:
    ttl_s = changed.get("ttl_s")
    bounds = {
        "success": model.CacheClass(capacity=10000, ttl_max_s=ttl_s or 3600),
        "denial": model.CacheClass(capacity=10000, ttl_max_s=ttl_s or 1800),
    }
    assert block(lines).cache == model.Cache(where=model.Position("f", 2), **{**bounds, **changed})


@pytest.mark.parametrize(
    ("lines", "success_s", "denial_s"),
    [
        ("cache", 3600, 1800),
        ("cache 7", 7, 7),
        ("cache 7 {\ndenial 10 5\n}", 7, 5),
        ("cache {\nsuccess 10\n}", 3600, 1800),
    ],
)
def test_cache_ttls(lines: str, success_s: int, denial_s: int) -> None:
    found = block(lines).cache
    assert found is not None
    assert (found.success.ttl_max_s, found.denial.ttl_max_s) == (success_s, denial_s)


def test_forward(tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    authority = Authority(tmp_path)
    pair = authority.sign()
    resolv.write_text("search x\nnameserver 10.0.0.3\noptions ndots:5\nnameserver fe80::1%lo\n")
    found = block(
        f"forward Example.ORG 10.0.0.1 [fd00::1]:5353 dns://10.0.0.2:54 tls://9.9.9.9%q.net {resolv} {{",
        "except a.b c", "except d", "force_tcp", "prefer_udp", "expire 5s", "max_fails 0",
        "max_connect_attempts 3", f"tls {pair.cert} {pair.key} {authority.file}", "policy sequential",
        "max_concurrent 100",
        "health_check 1s no_rec domain x.y", "next SERVFAIL nxdomain", "next REFUSED", "failover FORMERR",
        "failfast_all_unhealthy_upstreams", "read_timeout 1s", "next_on_nodata",
        "max_idle_conns 4", "max_age 1h", "doh_method GET", "resolver 1.1.1.1 1.0.0.1:54", "}",
    ).forward[0]  # fmt: skip
    assert found.zone == "example.org."
    assert [(to.scheme, to.server_name, [str(e) for e in to.endpoints]) for to in found.to] == [
        ("dns", "", ["10.0.0.1:53"]),
        ("dns", "", ["[fd00::1]:5353"]),
        ("dns", "", ["10.0.0.2:54"]),
        ("tls", "q.net", ["9.9.9.9:853"]),
        ("dns", "", ["10.0.0.3:53", "[fe80::1%1]:53"]),
    ]
    assert found.to[4].file == resolv
    assert fields(found) | {"to": ()} == {
        "zone": "example.org.", "zones": ("example.org.",), "to": (),
        "except_": ("a.b.", "c.", "d."), "force_tcp": True,
        "prefer_udp": True, "expire_s": 5.0, "max_fails": 0, "max_connect_attempts": 3,
        "tls": model.Tls(files=(*pair, authority.file)), "tls_servername": "",
        "policy": "sequential", "max_concurrent": 100, "next_": (2, 3, 5), "failover": (1,),
        "health_check": model.HealthCheck(
            interval_s=1.0, words=("no_rec", "domain", "x.y"), no_rec=True, domain="x.y."
        ),
        "failfast_all_unhealthy_upstreams": True, "read_timeout_s": 1.0, "next_on_nodata": True,
        "source_address": "", "max_idle_conns": 4, "max_age_s": 3600.0, "doh_method": "GET",
        "resolver": (Endpoint("1.1.1.1", 53), Endpoint("1.0.0.1", 54)),
    }  # fmt: skip


def test_forward_defaults() -> None:
    found = fields(block("forward . 10.0.0.1").forward[0])
    assert found.pop("to")[0].endpoints == (Endpoint("10.0.0.1", 53),)
    assert found == {
        row.name: row.default if row.name != "zones" else (".",)
        for row in dataclasses.fields(model.Forward)
        if row.name not in ("where", "to", "to_words")
    }


def test_forward_of_a_network_is_for_all_its_zones() -> None:
    found = block("forward 10.0.2.0/23 10.0.0.1", "forward . 10.0.0.2").forward
    assert [(one.zone, one.to[0].text) for one in found] == [
        ("2.0.10.in-addr.arpa.", "10.0.0.1"), ("3.0.10.in-addr.arpa.", "10.0.0.1"), (".", "10.0.0.2")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "scheme", "endpoint", "server_name", "host", "path"),
    [
        ("10.0.0.1", "dns", "10.0.0.1:53", "", "", ""),
        ("fd00::1", "dns", "[fd00::1]:53", "", "", ""),
        ("fe80::1%lo", "dns", "[fe80::1%1]:53", "", "", ""),
        ("tls://fe80::1%lo", "tls", "[fe80::1%1]:853", "", "", ""),
        ("tls://fe80::1%lo%a.b", "tls", "[fe80::1%1]:853", "a.b", "", ""),
        ("tls://[fd00::1]:854%a.b", "tls", "[fd00::1]:854", "a.b", "", ""),
        ("tls://10.0.0.1", "tls", "10.0.0.1:853", "", "", ""),
        (f"{DOH}10.0.0.1/dns-query", "https", "10.0.0.1:443", "", "", "/dns-query"),
        (f"{DOH}dns.example/q", "https", "", "", "dns.example", "/q"),
        ("dns.example:54", "dns", "", "", "dns.example:54", ""),
    ],
)
def test_upstreams(text: str, scheme: str, endpoint: str, server_name: str, host: str, path: str) -> None:
    to = block(f"forward . {text} {{\nresolver 9.9.9.9\n}}").forward[0].to[0]
    assert to.text == text
    assert (to.scheme, "".join(map(str, to.endpoints)), to.server_name, to.host, to.http_path) == (
        scheme, endpoint, server_name, host, path
    )  # fmt: skip


def test_a_resolv_conf_without_a_nameserver(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("search x\n")
    assert problems(f". {{\nforward . {tmp_path}/empty\n}}") == [
        f"f:2: plugin forward: found no nameserver in '{tmp_path}/empty', expected one at least"
    ]


def test_upstreams_that_a_source_address_does_not_reach(tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    text = f"forward . {resolv} 2001:db8::2 tls://192.0.2.2 {{\nsource_address 10.0.0.9\n}}"
    found = corefile(f". {{\n{text}\n}}")
    forward = found.blocks[0].forward[0]
    assert forward.source_address == "10.0.0.9"
    assert [str(end) for to in forward.to for end in to.endpoints] == ["192.0.2.1:53", "192.0.2.2:853"]
    assert found.warnings == tuple(
        f"f:2: plugin forward: {end} is not asked: there is no way to it from 10.0.0.9"
        for end in ("[2001:db8::1]:53", "[2001:db8::2]:53")
    )


@pytest.mark.parametrize("name", ["a" * 5000, "/" + "a" * 300, "/proc/1/root/x/y", "a\x00b"])
def test_files_with_odd_names(name: str) -> None:
    assert len(problems(f". {{\nforward . {name}\n}}")) == 1
    found = corefile(f". {{\nhosts {name}\n}}") if "\x00" not in name else None
    assert found is None or len(found.warnings) == 1


def test_bind() -> None:
    bind = block("bind 10.0.0.1 fe80::1%lo", "bind ::1").bind
    assert bind is not None
    assert bind.addresses == (BindAddress("10.0.0.1"), BindAddress("fe80::1", 1), BindAddress("::1"))
    loopback = block("bind lo {\nexcept ::1\n}").bind
    assert loopback is not None
    assert BindAddress("127.0.0.1") in loopback.addresses
    assert BindAddress("::1") not in loopback.addresses


def test_endpoints() -> None:
    bound = corefile("a b:54 {\nbind 10.0.0.1 ::1\n}").blocks[0]
    assert [[str(e) for e in bound.endpoints(key)] for key in bound.keys] == [
        ["10.0.0.1:53", "[::1]:53"], ["10.0.0.1:54", "[::1]:54"]
    ]  # fmt: skip
    unbound = corefile("a {\n}").blocks[0]
    assert [str(e) for e in unbound.endpoints(unbound.keys[0])] == ["0.0.0.0:53", "[::]:53"]


def test_hosts(tmp_path: Path) -> None:
    found = block(
        f"hosts {tmp_path} A.b 10.0.0.0/8 {{", "10.0.0.1 Foo *.bar.", "::1 x",
        "ttl 60", "no_reverse", "reload 1s", "fallthrough", "}",
    ).hosts  # fmt: skip
    assert found is not None
    assert fields(found) == {
        "file": tmp_path, "zones": ("a.b.", "10.in-addr.arpa."), "ttl_s": 60, "no_reverse": True,
        "reload_s": 1.0, "fallthrough": (".",),
        "inline": (
            model.HostsLine(address="10.0.0.1", names=("foo.", "*.bar.")),
            model.HostsLine(address="::1", names=("x.",)),
        ),
    }  # fmt: skip
    only = block("hosts {\nfallthrough a 10.0.0.0/8\n}").hosts
    assert only is not None
    assert only.fallthrough == ("a.", "10.in-addr.arpa.")


def test_hosts_lines_that_node_cache_passes_over() -> None:
    found = corefile(". {\nhosts {\nnonsense here\n10.0.0.1\n10.0.0.2 a\n}\n}")
    assert found.blocks[0].hosts is not None
    assert [line.address for line in found.blocks[0].hosts.inline] == ["10.0.0.2"]
    assert [warning.split(": ")[0] for warning in found.warnings] == ["f:3", "f:4"]


@pytest.mark.parametrize(
    ("line", "zones", "form"),
    [
        ("log", (".",), LOG_COMMON),
        ("log a.b", ("a.b.",), LOG_COMMON),
        ("log {x}", ("{x}.",), LOG_COMMON),  # one word is a name, whatever it looks like
        ('log a b "{name} {common}"', ("a.", "b."), "{name} " + LOG_COMMON),
        ("log . {combined}", (".",), LOG_COMMON + ' "{>opcode}"'),
        ("log a b", ("a.", "b."), LOG_COMMON),
    ],
)
def test_log(line: str, zones: tuple[str, ...], form: str) -> None:
    found = block(line).log[0]
    assert (found.zones, found.format, found.classes) == (zones, form, ("all",))


def test_log_classes() -> None:
    assert block("log {\nclass denial error\nclass success\n}").log[0].classes == (
        "denial",
        "error",
        "success",
    )


@pytest.mark.parametrize(
    ("line", "jitter_s"), [("reload", 15), ("reload 10s", 5), ("reload 1m 5s", 5), ("reload 2s 0s", 0)]
)
def test_reload(line: str, jitter_s: float) -> None:
    found = block(line).reload
    assert found is not None
    assert found.jitter_s == jitter_s


@pytest.mark.parametrize(
    ("line", "stop", "rule"),
    [
        ("rewrite name A.b c", True, model.NameRule("exact", "a.b.", "c.")),
        ("rewrite continue name exact a b", False, model.NameRule("exact", "a.", "b.")),
        ("rewrite stop {\nname\nprefix\nA\nB\n}", True, model.NameRule("prefix", "a", "b")),
        ("rewrite name a b answer auto", True, model.NameRule("exact", "a.", "b.", True)),
        (
            'rewrite name regex (.*)\\.a\\. {1}.b answer name (.*)\\.b {1}.a answer value x "y"',
            True,
            model.NameRule(
                "regex",
                r"(.*)\.a\.",
                "{1}.b",
                False,
                (model.AnswerRule("name", r"(.*)\.b", "{1}.a"), model.AnswerRule("value", "x", "y")),
            ),
        ),
        ("rewrite name suffix .a.b. .c.", True, model.NameRule("suffix", ".a.b.", ".c.")),
        ("rewrite name substring aB Cd", True, model.NameRule("substring", "ab", "cd")),
        ("rewrite type ANY hinfo", True, model.TypeRule(255, 13)),
        ("rewrite class CH IN", True, model.ClassRule(3, 1)),
        ("rewrite ttl a 30", True, model.TtlRule("exact", "a.", 30, 30)),
        ("rewrite ttl regex .* 30-60", True, model.TtlRule("regex", ".*", 30, 60)),
        ("rewrite ttl suffix a -60", True, model.TtlRule("suffix", "a.", 0, 60)),
        ("rewrite ttl prefix a 60-", True, model.TtlRule("prefix", "a", 60, 2**31 - 1)),
        ("rewrite rcode a NXDOMAIN 0", True, model.RcodeRule("exact", "a.", 3, 0)),
        ("rewrite cname regex (.*)a {1}b", True, model.CnameRule("regex", "(.*)a", "{1}b")),
        ("rewrite edns0 local set 0xffee 0x0aff", True, model.EdnsLocalRule("set", 0xFFEE, b"\x0a\xff")),
        (
            "rewrite edns0 local append 65 text revert",
            True,
            model.EdnsLocalRule("append", 65, b"text", "", True),
        ),
        ("rewrite edns0 local replace 65 {qname}", True, model.EdnsLocalRule("replace", 65, b"", "{qname}")),
        ("rewrite edns0 local unset 0x41", True, model.EdnsLocalRule("unset", 65)),
        ("rewrite edns0 nsid set", True, model.EdnsNsidRule("set")),
        ("rewrite edns0 nsid unset", True, model.EdnsNsidRule("unset")),
        ("rewrite edns0 subnet set 24 56 revert", True, model.EdnsSubnetRule("set", 24, 56, True)),
        ("rewrite edns0 subnet unset", True, model.EdnsSubnetRule("unset")),
    ],
)
def test_rewrite(line: str, stop: bool, rule: model.Rule) -> None:
    found = block(line).rewrite[0]
    assert (found.stop, found.rule) == (stop, rule)


def test_template() -> None:
    found = block(
        "template IN ANY a.b 10.0.0.0/8 {", 'match "^a$" "b"', "match c",
        'answer "{{ .Name }} 60 IN A 1.2.3.4"',
        "additional x", "authority y", "rcode NXDOMAIN", "ederror 21 why", "fallthrough", "upstream", "}",
    ).template[0]  # fmt: skip
    assert fields(found) == {
        "qclass": 1, "qtype": 255, "zones": ("a.b.", "10.in-addr.arpa."), "match": ("^a$", "b", "c"),
        "answer": ("{{ .Name }} 60 IN A 1.2.3.4",), "additional": ("x",), "authority": ("y",), "rcode": 3,
        "ederror": model.ExtendedError(code=21, text="why"), "fallthrough": (".",), "upstream": (),
    }  # fmt: skip
    assert block("template IN A").template[0].match == (".*",)


def test_fields_that_no_question_has() -> None:
    found = corefile('. {\ntemplate IN A {\nanswer "{{ .Message.Id }}" "{{ .Nam }} {{ .Name }}"\n}\n}')
    assert found.warnings == (
        "f:3: plugin template: found field '.Message.Id', which a question doesn't have: SERVFAIL",
        (
            "f:3: plugin template: found field '.Nam', which a question doesn't have: SERVFAIL"
            " (did you mean 'Name'?)"
        ),
    )


@pytest.mark.parametrize(
    ("lines", "name", "changed"),
    [
        ("bufsize 512", "bufsize", {"size": 512}),
        ("dns64 64:ff9b:1::/48", "dns64", {"argument": "64:ff9b:1::/48", "prefix": "64:ff9b:1::/48"}),
        ("dns64 {\nprefix 2001:db8::/32\ntranslate_all\nallow_ipv4\n}", "dns64",
         {"option_prefix": "2001:db8::/32", "prefix": "2001:db8::/32", "translate_all": True,
          "allow_ipv4": True}),
        ("errors stdout {\nstacktrace\nconsolidate 5m ^a$ info show_first\nconsolidate 1s b\n}", "errors",
         {"stacktrace": True, "consolidate": (
             model.Consolidate(duration_s=300, regex="^a$", level="info", show_first="show_first"),
             model.Consolidate(duration_s=1, regex="b"))}),
        ("health 169.254.20.10:8080 {\nlameduck 5s\n}", "health",
         {"address": ("169.254.20.10", 8080), "lameduck_s": 5.0}),
        ("health [::1]:8080", "health", {"address": ("::1", 8080)}),
        ("loadbalance weighted /w {\nreload 5s\n}", "loadbalance",
         {"policy": "weighted", "file": Path("/w"), "reload_s": 5.0}),
        ("loadbalance {\nprefer 10.0.0.5/8 fd00::/8\n}", "loadbalance",
         {"policy": "round_robin", "prefer": ("10.0.0.0/8", "fd00::/8")}),
        ("prometheus :9253", "prometheus", {"address": ("", 9253)}),
        ("prometheus {\nruntime_metrics\n}", "prometheus", {"runtime_metrics": True}),
        ("pprof 127.0.0.1:1 {\nblock 5\n}", "pprof", {"address": ("127.0.0.1", 1), "block": (5,)}),
        ("ready :1 {\nmonitor continuously\n}", "ready", {"address": ("", 1), "monitor": "continuously"}),
        ("timeouts {\nread 5\nwrite 1m\nidle 24h\nmaxtcpqueries 9\n}", "timeouts",
         {"read_s": 5.0, "write_s": 60.0, "idle_s": 86400.0, "maxtcpqueries": 9}),
        ("trace datadog h:1 {\nevery 5\nservice x\nclient_server t\ndatadog_analytics_rate 0.5\n}", "trace",
         {"kind": "datadog", "endpoint": "h:1", "words": ("datadog", "h:1"), "every": 5, "service": "x",
          "client_server": (True,), "datadog_analytics_rate": 0.5}),
    ],
)  # fmt: skip
def test_others(lines: str, name: str, changed: dict[str, Any]) -> None:
    assert getattr(block(lines), name) == PLUGINS[name].cls(where=model.Position("f", 2), **changed)


def test_settings() -> None:
    text = (
        "fastdns {\nworkers 4\nmemory 64M\nfallback_linger 0\npacket_filter iptables\n"
        "cluster_zones cluster.local 10.0.0.0/8\nstale 24h\nstale_wait 50ms\n}\n"
    )
    found = corefile(text)
    assert found.settings == model.Settings(
        workers=4, memory=64 * 2**20, fallback_linger_s=0, packet_filter="iptables",
        cluster_zones=("cluster.local.", "10.in-addr.arpa."), stale_s=86400, stale_wait_s=0.05,
    )  # fmt: skip
    assert [str(key) for key in found.blocks[0].keys] == ["dns://.:53"]
    assert problems("fastdns {\nworker 4\nmemory 1M\n}") == [
        (
            "f:2: fastdns: found option 'worker', expected one of workers, memory, fallback_linger,"
            " packet_filter, stale, stale_wait, cluster_zones, no_aaaa, no_a, both_families, nxdomain_cut"
            " (did you mean 'workers'?)"
        ),
        "f:3: fastdns: found '1M' of 'memory', expected a size such as 16M, 64MiB or 1G, of 8M at least",
    ]
    assert problems("fastdns {\n}\nfastdns {\n}") == ["f:3: found a second block 'fastdns', expected one"]
    assert corefile("fastdns. {\nwhoami\n}").blocks[0].keys[0].zone == "fastdns."


def test_every_option_has_help() -> None:
    for cls in [*(spec.cls for spec in PLUGINS.values()), model.Settings]:
        assert cls.__doc__
        for row in declarations(cls):
            assert row.how.help, (cls, row.field)
            if isinstance(row.how, Option) and row.default is dataclasses.MISSING:
                pytest.fail(f"{cls}.{row.field}: an option needs a default")
