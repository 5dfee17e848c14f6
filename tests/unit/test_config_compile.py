# SPDX-License-Identifier: Apache-2.0
"""From a Corefile's text to the configuration of the data plane."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.config.compile import Compiled, compile_corefile
from fastdns.control.config.hostsfile import host_table, read_lines
from fastdns.control.config.load import parse_corefile
from fastdns.control.config.model import HostsLine
from fastdns.control.config.numbering import Numbers
from fastdns.control.model import (
    TLS_CONNECTION_AGE_S,
    Block,
    FamilyStep,
    Forward,
    HostRecord,
    HostsStep,
    NameStep,
    ReplyStep,
    SlowStep,
    Tls,
    TypeStep,
    Upstream,
    WhoamiStep,
    Zone,
)
from fastdns.errors import CorefileError
from tests.certificates import Authority

BIND = "bind 127.0.0.1\n"
TLS = Upstream(Endpoint("192.0.2.1", 853), force_tcp=True, max_age_s=TLS_CONNECTION_AGE_S, tls=Tls())


def compiled(text: str, numbers: Numbers | None = None) -> Compiled:
    return compile_corefile(parse_corefile(text, "Corefile", {}), numbers or Numbers(), worker_count=2)


def only_block(text: str) -> Block:
    (block,) = compiled(f". {{\n{BIND}{text}\n}}\n").config.blocks
    assert block is not None
    return block


def zones(of: Compiled) -> list[Zone]:
    return [zone for zone in of.config.zones if zone is not None]


def test_what_rke2_renders() -> None:
    cluster = "errors\ncache {\nsuccess 9984 30\ndenial 9984 5\n}\nloop\nbind 127.0.0.1 127.0.0.2\n"
    rest = "errors\ncache 30\nloop\nbind 127.0.0.1 127.0.0.2\nprometheus :9253\n"
    found = compiled(
        f"cluster.local:53 {{\n{cluster}forward . 10.43.0.10 {{\nforce_tcp\n}}\nprometheus :9253\n}}\n"
        f"in-addr.arpa:53 ip6.arpa:53 {{\n{rest}forward . 10.43.0.10 {{\nforce_tcp\n}}\n}}\n"
        f".:53 {{\n{rest}forward . 192.0.2.1 192.0.2.2\n}}\n"
    )
    config = found.config
    assert found.warnings == ()
    assert [str(one.endpoint) for one in config.listeners if one] == ["127.0.0.1:53", "127.0.0.2:53"]
    assert {one.group for one in config.listeners if one} == {0}, "one list of blocks on both addresses"
    assert [(zone.name, zone.block) for zone in zones(found)] == [
        ("cluster.local.", 0), ("in-addr.arpa.", 1), ("ip6.arpa.", 1), (".", 2)
    ]  # fmt: skip
    assert config.upstreams == (
        Upstream(Endpoint("10.43.0.10", 53), force_tcp=True),
        Upstream(Endpoint("192.0.2.1", 53)),
        Upstream(Endpoint("192.0.2.2", 53)),
    )
    first, _, last = config.blocks
    assert first is not None
    assert last is not None
    assert (first.ttl_min_s, first.ttl_max_s, first.negative_min_s, first.negative_max_s) == (5, 30, 5, 5)
    assert (first.capacity, first.failure_s, first.uniform_ttl) == ((9984, 9984), 5, True)
    assert (first.errors, first.loop, first.steps) == (True, True, (Forward((0,), policy="random"),))
    assert last.steps == (Forward((1, 2), policy="random"),)
    # What no zone took, and four zones, on two addresses.
    assert len(config.series) == 10
    assert {number for _, _, number in config.series} == set(range(10))
    assert all(zone.metrics for zone in zones(found))
    os.close(create_config(config))


def test_a_block_without_cache() -> None:
    block = only_block("forward . 192.0.2.1")
    assert (block.caching, block.uniform_ttl, block.errors, block.loop) == (False, False, False, False)


def test_the_bounds_of_cache() -> None:
    block = only_block(
        "cache 60 a.example b.example {\nsuccess 300\ndenial 30000 7200 10\nservfail 1500ms\nkeepttl\n"
        "disable denial x.example\ndisable success\n}\nforward . 192.0.2.1"
    )
    assert (block.ttl_min_s, block.ttl_max_s, block.negative_min_s, block.negative_max_s) == (5, 60, 10, 7200)
    assert block.capacity == (1024, 29952), "so many in each of 256 parts, and 4 there at least"
    assert (block.failure_s, block.keep_ttl) == (2, True)
    assert block.cached == ("a.example.", "b.example.")
    assert block.disabled == ((".",), ("x.example.",))


def test_groups_are_addresses_that_serve_the_same() -> None:
    found = compiled(
        ".:53 {\nbind 127.0.0.1 127.0.0.2 127.0.0.3\nforward . 192.0.2.1\n}\n"
        "corp:53 {\nbind 127.0.0.3\nforward . 192.0.2.2\n}\n"
        ".:54 {\nbind 127.0.0.1\nwhoami\n}\n"
    )
    groups = {str(one.endpoint): one.group for one in found.config.listeners if one}
    assert groups["127.0.0.1:53"] == groups["127.0.0.2:53"]
    assert len(set(groups.values())) == 3
    assert sorted(zone.name for zone in zones(found)) == [".", ".", ".", "corp."]
    classes = {str(one.endpoint): one.any_class for one in found.config.listeners if one}
    assert classes == {
        "127.0.0.1:53": True, "127.0.0.2:53": True, "127.0.0.3:53": True, "127.0.0.1:54": False
    }  # fmt: skip


def test_numbers_live_through_reloads() -> None:
    def text(*names: str) -> str:
        return "".join(
            f"{name}:53 {{\n{BIND}forward . 192.0.2.{number}\nprometheus\n}}\n"
            for number, name in enumerate(names)
        )

    first = compiled(text("a", "b", "c"))
    numbers = Numbers.read(first.config.notes)
    second = compiled(text("c", "d", "a"), numbers)
    by_name = {zone.name: number for number, zone in enumerate(second.config.zones) if zone}
    assert by_name == {"a.": 0, "c.": 2, "d.": 3}
    assert second.config.zones[1] is None
    assert second.config.blocks[1] is None
    assert (first.config.number, second.config.number) == (1, 2)
    assert {zone: number for _, zone, number in second.config.series} == {None: 0, 0: 1, 2: 3, 3: 4}
    os.close(create_config(second.config))


def test_the_text_of_a_block_is_what_shapes_its_answers() -> None:
    plain = only_block("cache 30\nforward . 192.0.2.1")
    same = only_block(
        "# why\nerrors\nlog\nprometheus\nloop\nforward . 192.0.2.1\ncache 30 {\nsuccess 5000 30\n}"
    )
    assert plain.text == same.text
    others = [
        only_block(text).text
        for text in (
            "cache 31\nforward . 192.0.2.1",
            "cache 30\nforward . 192.0.2.2",
            "cache 30\nforward . 192.0.2.1 192.0.2.2",
            "cache 30\nforward . 192.0.2.1 {\nexcept a\n}",
            "cache 30\nrewrite name a b\nforward . 192.0.2.1",
            "forward . 192.0.2.1",
            "cache 30\nhosts /dev/null {\n192.0.2.1 a\n}\nforward . 192.0.2.1",
            "cache 30\nhosts /dev/null {\n192.0.2.1 a\nttl 60\n}\nforward . 192.0.2.1",
            "cache 30\nloadbalance {\nprefer 10.0.0.0/8\n}\nforward . 192.0.2.1",
        )
    ]
    assert len({plain.text, *others}) == 10
    hosts = "cache 30\nhosts /dev/null {{\n192.0.2.{} a\n}}\nforward . 192.0.2.1"
    assert only_block(hosts.format(1)).text == only_block(hosts.format(2)).text, "the sweep looks at names"


def test_flags_of_a_zone() -> None:
    (zone,) = zones(compiled(f". {{\n{BIND}log\nloadbalance\nbufsize 1400\ndns64\nforward . 192.0.2.1\n}}"))
    assert (zone.log, zone.rotate, zone.edns_max, zone.by_family, zone.refused) == (
        True,
        True,
        1400,
        True,
        False,
    )
    (zone,) = zones(compiled(f". {{\n{BIND}reload\n}}"))
    assert zone.refused, "nothing in the block handles queries"
    (zone,) = zones(compiled(f". {{\n{BIND}cache\n}}"))
    assert not zone.refused, "no next plugin: SERVFAIL"


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("whoami", True),
        ("forward . 192.0.2.1\nwhoami", False),
        ("forward . 192.0.2.1 {\nexcept a\n}\nwhoami", True),
        ("forward . 192.0.2.1\nrewrite edns0 subnet set 24 56", True),
        ("forward . 192.0.2.1\nrewrite edns0 local set 0xffee {client_ip}", True),
        ("forward . 192.0.2.1\nrewrite edns0 local set 0xffee {qname}", False),
        ("forward . 192.0.2.1\nrewrite edns0 local set 0xffee abc", False),
    ],
)
def test_who_needs_the_client(text: str, asks: bool) -> None:
    (zone,) = zones(compiled(f". {{\n{BIND}{text}\n}}"))
    assert zone.by_client == asks


def test_the_chain_has_its_own_order() -> None:
    block = only_block(
        "whoami\nforward corp 192.0.2.1 {\nexcept lab.corp\n}\nhosts /dev/null {\n192.0.2.9 a\n}\n"
        "rewrite continue name suffix .old .new answer auto\n"
        "rewrite type AAAA A\nrewrite class CH IN\nrewrite ttl suffix example 5-60\n"
        "rewrite rcode exact a SERVFAIL NOERROR\nrewrite name A.Example b.example\n"
    )
    assert [type(step) for step in block.steps] == [
        NameStep, TypeStep, TypeStep, ReplyStep, ReplyStep, NameStep, HostsStep, Forward, WhoamiStep,
    ]  # fmt: skip
    assert block.steps[:6] == (
        NameStep("suffix", ".old.", ".new.", automatic=True, stop=False),
        TypeStep("type", 28, 1),
        TypeStep("class", 3, 1),
        ReplyStep("ttl", "suffix", "example.", 5, 60),
        ReplyStep("rcode", "exact", "a.", 2, 0),
        NameStep("exact", "a.example.", "b.example.", automatic=True),
    )
    hosts = block.steps[6]
    assert isinstance(hosts, HostsStep)
    assert (hosts.zones, hosts.through, hosts.ttl_s) == ((".",), (), 3600)
    assert hosts.names["a."] == HostRecord(inet4=(bytes([192, 0, 2, 9]),))
    assert hosts.names["9.2.0.192.in-addr.arpa."].pointers == ("a.",)
    config = compiled(f". {{\n{BIND}hosts /dev/null {{\n192.0.2.9 a\n}}\n}}").config
    os.close(create_config(config))


def test_what_needs_python_goes_to_the_thread() -> None:
    block = only_block(
        'template IN A x.example {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}\ndns64\n'
        "rewrite continue name suffix .old .new\nrewrite name regex (.*) x.{1}\n"
    )
    programs = [json.loads(step.program) for step in block.steps if isinstance(step, SlowStep)]
    assert [one["plugin"] for one in programs] == ["dns64", "rewrite", "template"]
    suffix, regex = programs[1]["rules"]
    assert (suffix["stop"], suffix["rule"]["from_"], suffix["rule"]["to"]) == (False, ".old.", ".new.")
    assert (regex["stop"], regex["rule"]["kind"], regex["rule"]["from_"]) == (True, "NameRule", "(.*)")


def test_our_own_address_in_a_resolv_conf(tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    found = compiled(f". {{\n{BIND}forward . {resolv}\n}}")
    assert found.config.upstreams == (Upstream(Endpoint("192.0.2.1", 53)),)
    left_out = f"Corefile:3: forward: 127.0.0.1:53 of {resolv} is left out"
    assert found.warnings == (f"{left_out}: it is an address of this server, questions would go round",)
    resolv.write_text("nameserver 127.0.0.1\n")
    found = compiled(f". {{\n{BIND}forward . {resolv}\n}}")
    assert found.config.upstreams == ()
    assert found.warnings[1] == "Corefile:3: forward: no upstream is left, its names fail with SERVFAIL"
    os.close(create_config(found.config))


def test_encrypted_upstreams() -> None:
    found = compiled(f". {{\n{BIND}forward . tls://192.0.2.1 192.0.2.2 tls://192.0.2.3:8853%a.example\n}}")
    named = replace(TLS, endpoint=Endpoint("192.0.2.3", 8853), tls=Tls("a.example"))
    assert found.config.upstreams == (TLS, Upstream(Endpoint("192.0.2.2", 53)), named)
    assert found.warnings == ()
    found = compiled(f". {{\n{BIND}forward . tls://192.0.2.1 {{\ntls\ntls_servername b.example\n}}\n}}")
    assert found.config.upstreams == (replace(TLS, tls=Tls("b.example")),)
    os.close(create_config(found.config))


def test_an_upstream_from_another_address_is_another() -> None:
    source = "source_address 127.0.0.1"
    found = compiled(
        f"a {{\n{BIND}forward . 192.0.2.1\n}}\nb {{\n{BIND}forward . 192.0.2.1 {{\n{source}\n}}\n}}\n"
        f"c {{\n{BIND}forward . tls://192.0.2.1 2001:db8::1 {{\n{source}\n}}\n}}\n"
    )
    plain, own = Upstream(Endpoint("192.0.2.1", 53)), Endpoint("127.0.0.1", 0)
    assert found.config.upstreams == (plain, replace(plain, source=own), replace(TLS, source=own))
    texts = {one.text for one in found.config.blocks if one is not None}
    assert len(texts) == 3, "an upstream may choose its answers by who asks"
    os.close(create_config(found.config))


def test_files_of_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.sign("client.example")

    def tls_of(*files: Path) -> Tls:
        words = " ".join(map(str, files))
        found = compiled(f". {{\n{BIND}forward . tls://192.0.2.1 {{\ntls {words}\n}}\n}}")
        assert found.config.upstreams[0] is not None
        assert found.config.upstreams[0].tls is not None
        return found.config.upstreams[0].tls

    assert replace(tls_of(authority.file), digest="") == Tls("", str(authority.file))
    assert replace(tls_of(*ours), digest="") == Tls("", "", str(ours.cert), str(ours.key))
    before = tls_of(*ours, authority.file)
    assert replace(before, digest="") == Tls("", str(authority.file), str(ours.cert), str(ours.key))
    authority.sign("client.example")  # renewed in place
    assert tls_of(*ours, authority.file).digest != before.digest


def test_files_of_tls_that_are_no_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one.example"), authority.sign("other.example")
    for files in ((one.key,), (one.cert, other.key), (Path("/dev/null"),)):
        words = " ".join(map(str, files))
        with pytest.raises(CorefileError, match=r"of 'tls', expected"):
            compiled(f". {{\n{BIND}forward . tls://192.0.2.1 {{\ntls {words}\n}}\n}}")


def test_https_upstreams_are_not_asked_in_plain_text() -> None:
    found = compiled(f". {{\n{BIND}forward . https://127.0.0.1/dns-query 192.0.2.2\n}}")
    assert found.config.upstreams == (Upstream(Endpoint("192.0.2.2", 53)),)
    assert found.warnings[0].startswith("Corefile:3: forward: https://127.0.0.1/dns-query is not asked")


def test_timeouts_are_an_addresses() -> None:
    """Of the blocks on an address the last one that has them counts."""
    found = compiled(
        f"a {{\n{BIND}timeouts {{\nread 5s\nidle 20s\n}}\n}}\nb {{\n{BIND}timeouts {{\nread 1s\n}}\n}}\n"
        f"c {{\n{BIND}whoami\n}}\nd {{\nbind 127.0.0.9\ntimeouts {{\nidle 2s\nmaxtcpqueries 5\n}}\n}}\n"
        "e {\nbind 127.0.0.8\nwhoami\n}\n"
    )
    times = [(one.tcp_first_ms, one.tcp_idle_ms) for one in found.config.listeners if one]
    assert times == [(1000, 10000), (3000, 2000), (3000, 10000)]
    assert [one.tcp_queries for one in found.config.listeners if one] == [0, 5, 0]
    assert not found.warnings


def test_an_unbound_block_listens_everywhere() -> None:
    found = compiled(". {\nwhoami\n}")
    assert "0.0.0.0:53" in [str(one.endpoint) for one in found.config.listeners if one]
    families = {one.endpoint.family for one in found.config.listeners if one}
    assert families <= {socket.AF_INET, socket.AF_INET6}


def test_too_much_of_something() -> None:
    many = "".join(f"z{number}:{1000 + number} {{\n{BIND}whoami\n}}\n" for number in range(33))
    with pytest.raises(CorefileError, match=r"^Corefile:129: found more addresses than 32, expected fewer"):
        compiled(many)
    upstreams = "".join(
        f"z{number} {{\n{BIND}forward . {' '.join(f'192.0.{number}.{host}' for host in range(1, 16))}\n}}\n"
        for number in range(3)
    )
    with pytest.raises(CorefileError, match=r"^Corefile:9: found more upstreams than 32"):
        compiled(upstreams)
    with pytest.raises(CorefileError, match="found more zones than 1024"):
        compiled(" ".join(f"z{number}" for number in range(1025)) + f" {{\n{BIND}whoami\n}}\n")


def test_hosts_lines(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(
        b"# nothing\n192.0.2.1 A.example b.example # c.example\n2001:db8::1 a.example\n"
        b"192.0.2.2\ta.example\r\n192.0.2.3 \nnonsense a.example\n::ffff:192.0.2.4 d.example\n"
        b"192.0.2.5 a..b \xff.example outside.test\nfe80::1%eth0 link.example\n"
    )
    names = host_table(read_lines(path), ("example.",))
    assert names["a.example."].inet4 == (bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    assert names["a.example."].inet6 == (socket.inet_pton(socket.AF_INET6, "2001:db8::1"),)
    assert names["d.example."].inet4 == (bytes([192, 0, 2, 4]),)
    assert names["1.2.0.192.in-addr.arpa."].pointers == ("a.example.", "b.example.")
    assert names["link.example."].inet6[0][0] == 0xFE
    assert "outside.test." not in names
    assert "c.example." not in names
    bare = host_table([HostsLine(address="192.0.2.1", names=("a",))], (".",), reverse=False)
    assert list(bare) == ["a."]


def test_a_missing_hosts_file_is_said() -> None:
    found = compiled(f". {{\n{BIND}hosts /nonexistent/hosts {{\nreload 1s\n}}\n}}")
    assert found.warnings == (
        "Corefile:3: hosts: /nonexistent/hosts: No such file or directory; going on without it",
    )
    assert found.hosts_files == ((Path("/nonexistent/hosts"), 1.0),)


RKE2 = (
    "cluster.local:53 {{\n{0}forward . 10.43.0.10\n}}\nin-addr.arpa:53 {{\n{0}forward . 10.43.0.10\n}}\n"
    "corp.example:53 {{\n{0}forward . 10.1.1.1\n}}\nexample.net:53 {{\n{0}forward . 10.43.0.10\n}}\n"
    ".:53 {{\n{0}forward . 192.0.2.1\n}}\n"
)


def cutting(text: str) -> dict[str, tuple[bool, bool]]:
    """Of each zone: whether it cuts, and learns where."""
    found = compiled(text)
    blocks = found.config.blocks
    return {one.name: (blocks[one.block].cut, blocks[one.block].cut_learn) for one in zones(found)}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "cut", "learn"),
    [
        ("", "cluster.local.", "cluster.local."),
        ("fastdns {\ncluster_zones cluster.local\n}\n", "cluster.local.", "cluster.local."),
        ("fastdns {\nnxdomain_cut\n}\n", "", ""),
        (
            "fastdns {\nnxdomain_cut cluster.local example\n}\n",
            "cluster.local. corp.example.",
            "cluster.local.",
        ),
        ("fastdns {\nnxdomain_cut in-addr.arpa\n}\n", "in-addr.arpa.", "in-addr.arpa."),
    ],
)
def test_where_nothing_exists_below_what_does_not(settings: str, cut: str, learn: str) -> None:
    found = cutting(settings + RKE2.format(f"cache\n{BIND}"))
    assert {name for name, (cuts, _) in found.items() if cuts} == set(cut.split())
    assert {name for name, (_, learns) in found.items() if learns} == set(learn.split())


def test_the_reverse_zones_of_a_cluster_are_not_cut() -> None:
    """CoreDNS denies 43.10.in-addr.arpa and has 10.0.43.10.in-addr.arpa."""
    found = cutting(RKE2.format(f"cache\n{BIND}").replace("cluster.local", "k8s.corp"))
    assert {name for name, (cuts, _) in found.items() if cuts} == {"k8s.corp.", "example.net."}
    settings = "fastdns {\ncluster_zones in-addr.arpa\n}\n"
    assert not any(cuts for cuts, _ in cutting(settings + RKE2.format(f"cache\n{BIND}")).values())


def test_a_cut_needs_a_cache_and_one_source() -> None:
    assert not any(cuts for cuts, _ in cutting(RKE2.format(BIND)).values())
    text = RKE2.format(f"cache\n{BIND}").replace(
        "forward . 10.43.0.10", "forward . 10.43.0.10 {\nexcept a.b\n}"
    )
    assert not any(cuts for cuts, _ in cutting(text).values())


def test_families_that_the_network_has_not_got() -> None:
    settings = "fastdns {\nno_aaaa . corp.example\nno_a v6.example\nboth_families ok.example\n}\n"
    found = compiled(
        f"{settings}example {{\n{BIND}forward . 10.1.1.1\n}}\ncluster.local {{\n{BIND}whoami\n}}\n"
    )
    steps = [block.steps for block in found.config.blocks if block is not None]
    kept = ("ok.example.",)
    assert steps[0][:-1] == (
        FamilyStep(1, "v6.example.", kept), FamilyStep(28, ".", kept), FamilyStep(28, "corp.example.", kept)
    )  # fmt: skip
    assert steps[1] == (FamilyStep(28, ".", kept), WhoamiStep())


def test_dns64_makes_nothing_of_a_family_that_is_switched_off() -> None:
    block = f"example {{\n{BIND}dns64\nforward . 10.1.1.1\n}}\n"
    found = compiled(f"fastdns {{\nno_a example\n}}\n{block}")
    assert [line.partition(" ")[2] for line in found.warnings] == [
        "dns64: what the zones of no_a have is NODATA to it, too"
    ]
    assert compiled(f"fastdns {{\nno_aaaa example\n}}\n{block}").warnings == ()
