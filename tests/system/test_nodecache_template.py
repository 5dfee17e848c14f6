# SPDX-License-Identifier: Apache-2.0
"""The Corefile that we make is, to the octet, the one that node-cache makes of the same files.

Whether either could serve it is no matter here.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fastdns.commands.goflags import parse_flags
from fastdns.commands.nodecache import FLAGS, make_options
from fastdns.control.config.nodecache import CorefileSource
from fastdns.errors import UsageError
from tests.peers.run import find_program, free_port
from tests.system.netns import network, skip_without_network_namespaces

pytestmark = skip_without_network_namespaces

DATA = Path(__file__).parents[1] / "data" / "corefiles"
ENVIRON = {"KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.43.7.7", "GOTRACEBACK": "none"}
RKE2 = (DATA / "rke2-iptables.Corefile").read_text()
TCP_BLOCK = """.:53 {
    errors
    forward . __PILLAR__UPSTREAM__SERVERS__ {
            force_tcp
    }
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
}
"""


@dataclass
class Files:
    """What lies on the node: the template, and the ConfigMap kube-dns by key."""

    template: str
    kubedns: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


CASES = {
    **{path.stem: Files(path.read_text()) for path in sorted(DATA.glob("*.Corefile"))},
    "upstreams": Files(RKE2, {"upstreamNameservers": '["9.9.9.9", "::9"]'}),
    "over TCP": Files(TCP_BLOCK),
    "over TCP, with upstreams": Files(TCP_BLOCK * 2, {"upstreamNameservers": '["9.9.9.9:5353"]'}),
    "another indentation": Files(TCP_BLOCK.replace("    ", "\t"), {"upstreamNameservers": '["9.9.9.9"]'}),
    "stub domain": Files(TCP_BLOCK, {"stubDomains": '{"corp.example": ["10.1.2.3", "[fd00::3]:54"]}'}),
    "stub domain and port": Files(TCP_BLOCK, {"stubDomains": '{"corp": ["10.1.2.3"]}'}, ("-p", "1053")),
    "both": Files(TCP_BLOCK, {"stubDomains": '{"a.b": ["10.1.2.3"]}', "upstreamNameservers": '["9.9.9.9"]'}),
    "no newline at the end": Files(TCP_BLOCK.strip(), {"stubDomains": '{"corp": ["10.1.2.3"]}'}),
    "line ends of elsewhere": Files(TCP_BLOCK.replace("\n", "\r\n"), {"upstreamNameservers": '["9.9.9.9"]'}),
    "federations": Files(TCP_BLOCK, {"federations": "a=b.c", "stubDomains": '{"corp": ["10.1.2.3"]}'}),
    "wrong upstreams": Files(TCP_BLOCK, {"upstreamNameservers": '["dns.google"]'}),
    "four upstreams": Files(TCP_BLOCK, {"upstreamNameservers": '["1.1.1.1", "::2", "::3", "::4"]'}),
    "wrong stub domain": Files(TCP_BLOCK, {"stubDomains": '{"Corp": ["10.1.2.3"]}'}),
    "host name as server": Files(TCP_BLOCK, {"stubDomains": '{"corp": ["ns.corp"]}'}),
    "wrong JSON": Files(TCP_BLOCK, {"stubDomains": "{", "upstreamNameservers": '["9.9.9.9"]'}),
    "wrong federations": Files(TCP_BLOCK, {"federations": "a", "upstreamNameservers": '["9.9.9.9"]'}),
    "null": Files(TCP_BLOCK, {"stubDomains": "null", "upstreamNameservers": "null"}),
    "two addresses": Files(TCP_BLOCK, {}, ("-localip", "169.254.20.10,10.43.0.10")),
    "no template": Files(""),
}  # fmt: skip


def lay_out(files: Files, root: Path) -> list[str]:
    """Write them below `root`; the arguments that name them."""
    for folder in ("etc", "coredns", "kube-dns"):
        (root / folder).mkdir(parents=True)
    if files.template:
        (root / "coredns" / "Corefile.base").write_bytes(files.template.encode())
    for key, text in files.kubedns.items():
        (root / "kube-dns" / key).write_text(text)
    return [
        "-localip=169.254.20.10",
        "-conf", str(root / "etc" / "Corefile"),
        "-basecorefile", str(root / "coredns" / "Corefile.base"),
        "-kubednscm", str(root / "kube-dns"),
        "-upstreamsvc", "kube-dns-upstream",
        "-setupinterface=false", "-setupiptables=false",
        *files.arguments,
    ]  # fmt: skip


def theirs(arguments: list[str], conf: Path) -> str:
    """The file that node-cache writes; -version, of all flags, lets it end there."""
    process = subprocess.run(
        [
            find_program("node-cache"),
            *arguments,
            "-metrics-listen-address",
            f"127.0.0.1:{free_port()}",
            "-version",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRON,
        timeout=30,
        check=False,
    )
    assert b"CoreDNS-" in process.stdout, process.stderr
    return conf.read_bytes().decode() if conf.exists() else ""


def ours(arguments: list[str], conf: Path) -> str:
    options = make_options(parse_flags(FLAGS, arguments))
    source = CorefileSource(options, ENVIRON, count_error=lambda: None)
    try:
        text = source.first()
    except UsageError:
        return ""
    assert conf.read_bytes() == text.encode()
    return text


@pytest.mark.parametrize("case", CASES)
def test_the_same_corefile(case: str, tmp_path: Path) -> None:
    arguments = {who: lay_out(CASES[case], tmp_path / who) for who in ("theirs", "ours")}
    with network() as net, net.entered():
        expected = theirs(arguments["theirs"], tmp_path / "theirs" / "etc" / "Corefile")
    assert ours(arguments["ours"], tmp_path / "ours" / "etc" / "Corefile") == expected
    assert bool(expected) is bool(CASES[case].template)
