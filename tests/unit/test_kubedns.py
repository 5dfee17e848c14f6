# SPDX-License-Identifier: Apache-2.0
"""The ConfigMap kube-dns: what node-cache takes and refuses (corefile.md 6.4)."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.control.config import kubedns
from fastdns.control.config.kubedns import ConfigMapError, KubeDNS, parse, read_keys


def test_what_it_says() -> None:
    found = parse(
        {
            "stubDomains": '{"corp.example": ["10.1.2.3", "[2001:db8::1]:53"], "acme.local": ["1.2.3.4:54"]}',
            "upstreamNameservers": '["8.8.8.8", "2001:db8::8"]',
            "federations": " prod = example.com, test=d.e.f ",
        }
    )
    assert found == KubeDNS(
        (("acme.local", ("1.2.3.4:54",)), ("corp.example", ("10.1.2.3", "[2001:db8::1]:53"))),
        ("8.8.8.8", "2001:db8::8"),
    )


@pytest.mark.parametrize(
    "texts",
    [{}, {"stubDomains": "{}", "upstreamNameservers": "[]", "federations": ""}, {"stubDomains": "null"}],
)
def test_nothing_said(texts: dict[str, str]) -> None:
    assert parse(texts) == KubeDNS()


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("stubDomains", "{", "stubDomains: Invalid JSON '{'"),
        ("stubDomains", '["a"]', "expected a map"),
        ("stubDomains", '{"": ["1.2.3.4"]}', "invalid domain name: ''"),
        ("stubDomains", '{"Corp.example": ["1.2.3.4"]}', "invalid domain name: 'Corp.example'"),
        ("stubDomains", '{"corp.example.": ["1.2.3.4"]}', "invalid domain name"),
        ("stubDomains", '{"a {\\n}": ["1.2.3.4"]}', "invalid domain name"),
        ("stubDomains", '{"a\\n": ["1.2.3.4"]}', "invalid domain name"),
        ("stubDomains", f'{{"{"a" * 64}": ["1.2.3.4"]}}', "invalid domain name"),
        ("stubDomains", f'{{"{".".join(["abc"] * 64)}": ["1.2.3.4"]}}', "invalid domain name"),
        ("stubDomains", '{"a": "1.2.3.4"}', "stubDomains: a: expected a list of texts"),
        ("stubDomains", '{"a": [4]}', "expected a list of texts"),
        ("stubDomains", '{"a": []}', "stubDomains: a: expected at least one server"),
        ("stubDomains", '{"a": ["ns.example.com"]}', "invalid nameserver: 'ns.example.com'"),
        ("stubDomains", '{"a": ["1.2.3.4:65564"]}', "expected a port from 1 to 65535"),
        ("stubDomains", '{"a": ["1.2.3.4\\n}"]}', "invalid nameserver"),
        ("stubDomains", '{"a": ["fe80::1%lo"]}', "invalid nameserver"),
        ("stubDomains", '{"a": ["tls://1.2.3.4"]}', "invalid nameserver"),
        (
            "upstreamNameservers",
            '["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]',
            "found 4, expected at most 3",
        ),
        ("upstreamNameservers", '["1.1.1.1:"]', "invalid nameserver"),
        ("upstreamNameservers", '["dns.google"]', "invalid nameserver"),
        ("upstreamNameservers", '"1.1.1.1"', "expected a list of texts"),
        ("upstreamNameservers", "[" * 5000, "Invalid JSON"),
        ("federations", "prod", "expected name=domain, found 'prod'"),
        ("federations", "a=b,", "expected name=domain"),
        ("federations", "a.b=c", "'a.b' is not a valid federation name"),
        ("federations", "a=-", "'-' is not a valid domain name"),
    ],
)
def test_what_is_refused(key: str, text: str, says: str) -> None:
    with pytest.raises(ConfigMapError) as caught:
        parse({key: text})
    assert says in str(caught.value)
    assert key in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(
    st.dictionaries(
        st.sampled_from(kubedns.KEYS), st.text() | st.sampled_from(['{"a":[null]}', "[[]]", "[null]"])
    )
)
def test_any_text_is_read_or_refused(texts: dict[str, str]) -> None:
    with contextlib.suppress(ConfigMapError):
        parse(texts)


def test_keys_are_files(tmp_path: Path) -> None:
    (tmp_path / "stubDomains").write_text("{}")
    (tmp_path / "other").write_bytes(b"\xff")
    (tmp_path / ".hidden").write_bytes(b"\xff")
    assert read_keys(tmp_path) == {"stubDomains": "{}"}
    assert read_keys(tmp_path / "..") == {}


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigMapError, match="is not a directory"):
        read_keys(file)
    with pytest.raises(FileNotFoundError):
        read_keys(tmp_path / "absent")


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"[]\xff", "non-utf8 data at octet 2"), (b"x" * (2**20 + 1), "expected at most 1048576 octets")],
)
def test_octets_that_are_no_text(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "upstreamNameservers").write_bytes(data)
    with pytest.raises(ConfigMapError, match=says):
        read_keys(tmp_path)


def kubelet_writes(folder: Path, name: str, texts: dict[str, str]) -> None:
    """As the kubelet does: a folder for each version, `..data` leads to it, and the keys lead there."""
    (folder / name).mkdir()
    for key, text in texts.items():
        (folder / name / key).write_text(text)
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(f"..data/{key}")
    (folder / "..data_tmp").symlink_to(name)
    (folder / "..data_tmp").replace(folder / "..data")


def test_versions_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet changes the folder between two keys: both are read again."""
    kubelet_writes(tmp_path, "..1", {"stubDomains": "old", "upstreamNameservers": "old"})
    read_text = kubedns.read_text
    versions = iter([{"stubDomains": "new", "upstreamNameservers": "new"}])

    def read_and_change(file: Path) -> str:
        text = read_text(file)
        for texts in versions:
            kubelet_writes(tmp_path, "..2", texts)
        return text

    monkeypatch.setattr(kubedns, "read_text", read_and_change)
    assert read_keys(tmp_path) == {"stubDomains": "new", "upstreamNameservers": "new"}


def test_a_folder_that_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubelet_writes(tmp_path, "..0", {"stubDomains": "{}"})
    read_text = kubedns.read_text
    names = iter(f"..{number}" for number in range(1, 100))

    def read_and_change(file: Path) -> str:
        text = read_text(file)
        kubelet_writes(tmp_path, next(names), {"stubDomains": "{}"})
        return text

    monkeypatch.setattr(kubedns, "read_text", read_and_change)
    with pytest.raises(ConfigMapError, match="changed each time"):
        read_keys(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "stubDomains").touch(mode=0)
    with pytest.raises(PermissionError):
        read_keys(tmp_path)
