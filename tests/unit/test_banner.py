# SPDX-License-Identifier: Apache-2.0
"""What is said at the start, and the version that we say to stand in for."""

from fastdns._version import COREDNS_VERSION, __version__
from fastdns.control.config.banner import banner
from fastdns.control.config.load import parse_corefile
from tests.peers.run import versions

TEXT = """\
cluster.local:53 corp {
    bind 169.254.20.10 ::1
}
.:53 {
    bind 169.254.20.10
}
.:1053 {
}
"""


def test_zones_by_listener() -> None:
    lines = banner(parse_corefile(TEXT, "Corefile")).splitlines()
    assert lines[:-2] == [
        ".:53 on 169.254.20.10",
        "cluster.local.:53 on 169.254.20.10",
        "corp.:53 on 169.254.20.10",
        "cluster.local.:53 on ::1",
        "corp.:53 on ::1",
        ".:1053",
    ]
    assert lines[-2] == f"fastdns-{__version__} in place of CoreDNS-{COREDNS_VERSION}"


def test_names_that_rfc_1035_would_not_prefer() -> None:
    """As node-cache sees them: reverse names are as they have to be."""
    zones = "a_b.test -x.test a-.test 1a.test *.w.test x--y.test 1.10.in-addr.arpa 8.b.ip6.arpa . OK.test"
    lines = banner(parse_corefile(f"{zones} {{\nbind ::1\n}}\n", "Corefile")).splitlines()[:-2]
    odd = [lines[i + 1].split(":")[0] for i, line in enumerate(lines) if line.startswith("Warning")]
    assert odd == ["*.w.test.", "-x.test.", "1a.test.", "a-.test.", "a_b.test."]
    assert 'Warning: Domain "a_b.test." does not follow RFC1035 preferred syntax' in lines


def test_the_version_is_the_peer_s() -> None:
    assert versions()["NODE_CACHE_COREDNS"] == f"v{COREDNS_VERSION}"
