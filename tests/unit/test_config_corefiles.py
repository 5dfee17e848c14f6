# SPDX-License-Identifier: Apache-2.0
"""The Corefiles that operators have: RKE2's chart in its three forms, and the Kubernetes manifest."""

import pickle
from pathlib import Path

import pytest

from fastdns.control.config import model
from fastdns.control.config.load import load_corefile, parse_corefile
from fastdns.control.config.model import BindAddress, Corefile
from fastdns.errors import CorefileError

DATA = Path(__file__).parent.parent / "data" / "corefiles"

UPSTREAM = "10.43.0.200"  # of the service kube-dns-upstream


def corefile(name: str, tmp_path: Path) -> Corefile:
    """One of the files as node-cache writes it: placeholders replaced."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch example.org\n")
    text = (DATA / f"{name}.Corefile").read_text()
    text = text.replace("__PILLAR__CLUSTER__DNS__", UPSTREAM).replace(
        "__PILLAR__UPSTREAM__SERVERS__", str(resolv)
    )
    (tmp_path / "Corefile").write_text(text)
    return load_corefile(tmp_path / "Corefile")


@pytest.mark.parametrize(
    ("name", "bind", "cluster_dns", "health"),
    [
        ("rke2-iptables", ["169.254.20.10", "10.43.0.10"], UPSTREAM, ("169.254.20.10", 8080)),
        ("rke2-ipvs", ["169.254.20.10"], "10.43.0.10", ("169.254.20.10", 8080)),
        ("rke2-cilium", ["0.0.0.0"], UPSTREAM, ("", 8080)),
        ("kubernetes", ["169.254.20.10", "10.96.0.10"], UPSTREAM, ("169.254.20.10", 8080)),
    ],
)
def test_what_operators_run(
    name: str, bind: list[str], cluster_dns: str, health: tuple[str, int], tmp_path: Path
) -> None:
    found = corefile(name, tmp_path)
    assert found.warnings == ()
    assert found.settings == model.Settings()
    assert [[str(key) for key in block.keys] for block in found.blocks] == [
        ["dns://cluster.local.:53"], ["dns://in-addr.arpa.:53"], ["dns://ip6.arpa.:53"], ["dns://.:53"]
    ]  # fmt: skip
    for block in found.blocks:
        present = {
            field for field in block.__slots__ if getattr(block, field) and field not in ("keys", "where")
        }
        expected = {"errors", "cache", "reload", "loop", "bind", "forward", "prometheus"}
        assert present == expected | ({"health"} if block is found.blocks[0] else set())
        assert block.bind is not None
        assert block.bind.addresses == tuple(BindAddress(host) for host in bind)
        assert block.prometheus is not None
        assert block.prometheus.address == ("", 9253)
    cluster, *others = found.blocks
    assert cluster.health is not None
    assert cluster.health.address == health
    assert bounds(cluster) == [(9984, 30, 5), (9984, 5, 5)]
    assert [bounds(block) for block in others] == [[(10000, 30, 5)] * 2] * 3
    for block in found.blocks:
        (forward,) = block.forward
        upstreams = [str(endpoint) for to in forward.to for endpoint in to.endpoints]
        last = block is found.blocks[-1]
        assert upstreams == (["192.0.2.1:53", "192.0.2.2:53"] if last else [f"{cluster_dns}:53"])
        assert forward.force_tcp is not last


def bounds(block: model.ServerBlock) -> list[tuple[int, int, int]]:
    assert block.cache is not None
    return [(c.capacity, c.ttl_max_s, c.ttl_min_s) for c in (block.cache.success, block.cache.denial)]


def test_stub_domains_are_appended_as_blocks(tmp_path: Path) -> None:
    """What node-cache writes for a stub domain of the kube-dns ConfigMap."""
    text = (DATA / "rke2-ipvs.Corefile").read_text().replace("__PILLAR__UPSTREAM__SERVERS__", "8.8.8.8")
    text += (
        "\nacme.local:53 {\n    errors\n    cache 30\n    bind 169.254.20.10\n    forward . 1.2.3.4:53\n}\n"
    )
    assert [key.zone for block in parse_corefile(text, "f").blocks for key in block.keys][-1] == "acme.local."


def test_a_corefile_goes_from_process_to_process(tmp_path: Path) -> None:
    """It is read in a process of its own."""
    found = corefile("rke2-iptables", tmp_path)
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_missing_cluster_address_is_named(tmp_path: Path) -> None:
    """node-cache writes <nil> where the environment has no address of the upstream service."""
    with pytest.raises(
        CorefileError, match=r"f:2: plugin forward: found '<nil>', expected an IP address or a file"
    ):
        parse_corefile(". {\nforward . <nil>\n}", "f")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorefileError, match="No such file or directory"):
        load_corefile(tmp_path / "none")
    with pytest.raises(CorefileError, match="Is a directory"):
        load_corefile(tmp_path)
    with pytest.raises(CorefileError, match="more than 16 MiB"):
        load_corefile("/dev/zero")
