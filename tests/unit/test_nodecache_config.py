# SPDX-License-Identifier: Apache-2.0
"""The Corefile as node-cache makes it of template, environment and ConfigMap (corefile.md 6.2 to 6.4)."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fastdns import _segments, _stats, log
from fastdns.control.config import nodecache
from fastdns.control.config.kubedns import KubeDNS
from fastdns.control.config.nodecache import CorefileSource, replace_text
from fastdns.control.config.template import Place, TemplateError, fill, find_service, service_variable
from fastdns.control.model import NodeOptions, Options
from fastdns.control.process import ErrorCount
from fastdns.errors import UsageError

PLACE = Place(("169.254.20.10", "10.43.0.10"), 53, "kube-dns-upstream", "10.43.7.7")
OVER_TCP = """.:53 {
    errors
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__ {
            force_tcp
    }
    prometheus :9253
}
"""


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    found: list[str] = []
    monkeypatch.setattr(log, "_write", lambda level, text: found.append(f"[{level}] {text}"))
    return found


def test_placeholders() -> None:
    text = (
        "a __PILLAR__CLUSTER__DNS__ b __PILLAR__LOCAL__DNS__\n"
        "c __PILLAR__DNS__SERVER__ d __PILLAR__UPSTREAM__SERVERS__\n"
    )
    filled = fill(text * 2, KubeDNS(), PLACE)
    assert filled == "a 10.43.7.7 b 169.254.20.10 10.43.0.10\nc  d /etc/resolv.conf\n" * 2


def test_other_text_stays_to_the_octet() -> None:
    text = "\ufeff# \u00e4\r\n\t. {\r\n  }\n\n__PILLAR__OTHER__ "
    assert fill(text, KubeDNS(), PLACE) == text


def test_without_upstreams_tcp_stays() -> None:
    assert "/etc/resolv.conf {\n            force_tcp\n    }\n" in fill(OVER_TCP, KubeDNS(), PLACE)


def test_with_upstreams_the_block_goes_over_udp() -> None:
    filled = fill(OVER_TCP, KubeDNS(upstreams=("1.1.1.1", "8.8.8.8:54")), PLACE)
    assert "\n    forward . 1.1.1.1 8.8.8.8:54\n    prometheus" in filled
    assert "force_tcp" not in filled


def test_another_indentation_keeps_tcp() -> None:
    """Only the text that node-cache looks for is switched: RKE2's is not."""
    indented = OVER_TCP.replace("            force_tcp", "      force_tcp")
    filled = fill(indented, KubeDNS(upstreams=("1.1.1.1",)), PLACE)
    assert "forward . 1.1.1.1 {\n      force_tcp\n" in filled


def test_stub_domains_follow_the_template() -> None:
    filled = fill("T\n", KubeDNS((("acme.local", ("1.2.3.4",)), ("corp", ("::1", "[::2]:54")))), PLACE)
    block = """
{zone}:53 {{
    errors
    cache 30
    bind 169.254.20.10 10.43.0.10
    forward . {servers}
}}
"""
    assert filled == "T\n" + block.format(zone="acme.local", servers="1.2.3.4") + block.format(
        zone="corp", servers="::1 [::2]:54"
    )


def test_the_service_variable() -> None:
    assert service_variable("kube-dns-upstream") == "KUBE_DNS_UPSTREAM_SERVICE_HOST"


@pytest.mark.parametrize(("value", "address"), [("10.43.7.7", "10.43.7.7"), ("fd00:0::7", "fd00::7")])
def test_a_service_that_is_there(value: str, address: str) -> None:
    assert find_service("kube-dns", {"KUBE_DNS_SERVICE_HOST": value}) == address


@pytest.mark.parametrize("environ", [{}, {"KUBE_DNS_SERVICE_HOST": "None"}, {"KUBE_DNS_SERVICE_HOST": ""}])
def test_a_service_that_is_not_there(environ: dict[str, str]) -> None:
    assert find_service("kube-dns", environ) is None


def test_a_service_is_only_wanted_where_it_is_named() -> None:
    """node-cache puts `<nil>` there, which its forward then calls no IP address."""
    place = Place(("169.254.20.10",), 53, "kube-dns-upstream", None)
    assert fill("forward . 10.43.0.10\n", KubeDNS(), place) == "forward . 10.43.0.10\n"
    with pytest.raises(
        TemplateError, match=r"no KUBE_DNS_UPSTREAM_SERVICE_HOST.*'kube-dns-upstream'"
    ) as caught:
        fill("forward . __PILLAR__CLUSTER__DNS__\n", KubeDNS(), place)
    assert caught.value.exit_code == 2


# --------------------------------------------------------------------------- files, and what changes them --


@dataclass
class World:
    """A container's files, and the counter of errors."""

    root: Path
    errors: int = 0
    environ: dict[str, str] = field(default_factory=lambda: {"KUBE_DNS_SERVICE_HOST": "10.43.7.7"})
    node: NodeOptions | None = None

    @property
    def conf(self) -> Path:
        return self.root / "etc" / "Corefile"

    @property
    def base(self) -> Path:
        return self.root / "coredns" / "Corefile.base"

    @property
    def folder(self) -> Path:
        return self.root / "kube-dns"

    def source(self, options: Options | None = None) -> CorefileSource:
        node = self.node or NodeOptions(("169.254.20.10",), base_corefile=str(self.base))
        return CorefileSource(
            options or Options(conf=str(self.conf), node=node), self.environ, self.count, self.folder
        )

    def count(self) -> None:
        self.errors += 1


@pytest.fixture
def world(tmp_path: Path, lines: list[str]) -> World:
    for name in ("etc", "coredns", "kube-dns"):
        (tmp_path / name).mkdir()
    world = World(tmp_path)
    world.base.write_text("base __PILLAR__UPSTREAM__SERVERS__\n")
    return world


def test_the_file_is_made_at_the_start(world: World, lines: list[str]) -> None:
    assert world.source().first() == world.conf.read_text() == "base /etc/resolv.conf\n"
    assert lines == [
        "[INFO] Updated Corefile with 0 custom stubdomains and upstream servers /etc/resolv.conf",
        "[INFO] Using config file:\nbase /etc/resolv.conf\n",
    ]
    assert world.errors == 0


def test_changes_are_seen_and_said_once(world: World, lines: list[str]) -> None:
    source = world.source()
    source.first()
    lines.clear()
    assert [source.poll(), source.poll()] == [None, None]
    (world.folder / "upstreamNameservers").write_text('["9.9.9.9"]')
    (world.folder / "stubDomains").write_text('{"corp": ["10.0.0.1"], "acme": ["10.0.0.2"]}')
    text = source.poll()
    assert text == world.conf.read_text()
    assert text.startswith("base 9.9.9.9\n\nacme:53 {\n")
    assert "Updated Corefile with 2 custom stubdomains and upstream servers 9.9.9.9" in lines[1]
    assert lines[0].startswith("[WARNING] Did not find TCP upstream block")
    assert source.poll() is None
    world.base.write_text("other\n")
    assert (source.poll() or "").startswith("other\n\nacme:53 {\n")
    (world.folder / "upstreamNameservers").unlink()
    (world.folder / "stubDomains").unlink()
    assert source.poll() == "other\n"
    assert world.errors == 0


def test_a_later_life_finds_its_file(world: World, lines: list[str]) -> None:
    """Control that came back didn't begin with first(): what is there already is no change."""
    world.source().first()
    lines.clear()
    later = world.source()
    assert [later.poll(), later.poll()] == [None, None]
    assert lines == []
    world.base.write_text("other\n")
    assert later.poll() == later.read() == "other\n"


def test_a_wrong_configmap_changes_nothing(world: World, lines: list[str]) -> None:
    source = world.source()
    (world.folder / "upstreamNameservers").write_text('["9.9.9.9"]')
    before = source.first()
    lines.clear()
    (world.folder / "upstreamNameservers").write_text('["9.9.9.9", "dns.google"]')
    assert [source.poll(), source.poll()] == [None, None]
    assert world.conf.read_text() == before
    assert world.errors == len(lines) == 1
    assert "Failed to sync kube-dns config directory" in lines[0]
    assert "invalid nameserver: 'dns.google'" in lines[0]
    (world.folder / "upstreamNameservers").write_text("[")
    assert source.poll() is None
    assert world.errors == 2  # another error
    (world.folder / "upstreamNameservers").write_text('["1.1.1.1"]')
    assert source.poll() == "base 1.1.1.1\n"


def test_a_wrong_configmap_at_the_start_is_looked_at_again(world: World) -> None:
    """node-cache serves without it, too, but never looks at the folder again."""
    source = world.source()
    (world.folder / "stubDomains").write_text("{")
    assert source.first() == "base /etc/resolv.conf\n"
    assert world.errors == 1
    (world.folder / "stubDomains").write_text('{"corp": ["10.0.0.1"]}')
    assert "corp:53" in (source.poll() or "")


def test_the_template_of_the_moment_with_the_last_good_configmap(world: World) -> None:
    source = world.source()
    (world.folder / "upstreamNameservers").write_text('["9.9.9.9"]')
    source.first()
    (world.folder / "upstreamNameservers").write_text("[")
    world.base.write_text("new __PILLAR__UPSTREAM__SERVERS__\n")
    assert source.poll() == "new 9.9.9.9\n"


def test_a_configmap_that_makes_the_corefile_wrong_is_left_out_at_the_start(
    world: World, lines: list[str]
) -> None:
    """node-cache leaves, over and over: a node without DNS for a typing error."""
    source = world.source()
    (world.folder / "stubDomains").write_text('{"cluster.local": ["10.0.0.1"]}')
    before = source.first()
    lines.clear()
    wrong = UsageError("Corefile:7: twice")
    assert source.without_kubedns(wrong) == "base /etc/resolv.conf\n"
    assert lines == [
        "[ERROR] Invalid config: with the ConfigMap kube-dns, which is left out: Corefile:7: twice"
    ]
    assert world.errors == 1
    assert source.read() == before
    (world.folder / "stubDomains").write_text("{}")
    assert source.poll() == "base /etc/resolv.conf\n"


def test_a_template_that_is_wrong_by_itself_has_no_way_out(world: World) -> None:
    source = world.source()
    source.first()
    assert source.without_kubedns(UsageError("wrong")) is None
    world.conf.write_text("wrong")
    plain = world.source(Options(conf=str(world.conf)))
    plain.first()
    assert plain.without_kubedns(UsageError("wrong")) is None
    assert world.errors == 0


def test_no_folder(world: World, lines: list[str]) -> None:
    world.folder.rmdir()
    source = world.source()
    assert source.first() == "base /etc/resolv.conf\n"
    assert "[INFO] Skipping kube-dns configmap sync as no directory was specified" in lines
    assert world.errors == 0


def test_a_folder_that_was_named_and_is_not_there_yet(world: World, lines: list[str]) -> None:
    named = world.root / "named"
    world.node = NodeOptions(("::1",), base_corefile=str(world.base), kubedns_dir=str(named))
    source = world.source()
    assert source.first() == "base /etc/resolv.conf\n"
    assert (
        f"[ERROR] Failed to sync kube-dns config directory {named}, err: No such file or directory" in lines
    )
    named.mkdir()
    (named / "upstreamNameservers").write_text('["9.9.9.9"]')
    assert source.poll() == "base 9.9.9.9\n"


def test_no_template_but_a_corefile(world: World, lines: list[str]) -> None:
    """Older kubespray has the Corefile itself in the ConfigMap (node-network.md section 9)."""
    world.base.unlink()
    world.conf.write_text("mine\n")
    source = world.source()
    assert source.first() == "mine\n"
    assert lines == [
        f"[ERROR] Failed to read node-cache coreFile {world.base} - No such file or directory",
        f"[WARNING] {world.conf} is used as it is",
    ]
    assert [source.poll(), source.poll()] == [None, None]
    assert world.errors == 1
    world.base.write_text("template\n")
    assert source.poll() == source.read() == "template\n"


def test_neither_template_nor_corefile(world: World) -> None:
    world.base.unlink()
    with pytest.raises(
        UsageError, match="Corefile: No such file or directory; expected a Corefile"
    ) as caught:
        world.source().first()
    assert caught.value.exit_code == 2


def test_a_template_that_wants_a_service_that_is_not_there(world: World) -> None:
    world.environ.clear()
    world.base.write_text("forward . __PILLAR__CLUSTER__DNS__\n")
    with pytest.raises(UsageError, match="no KUBE_DNS_SERVICE_HOST"):
        world.source().first()
    assert not world.conf.exists()


def test_a_change_to_such_a_template_changes_nothing(world: World, lines: list[str]) -> None:
    world.environ.clear()
    source = world.source()
    before = source.first()
    lines.clear()
    world.base.write_text("forward . __PILLAR__CLUSTER__DNS__\n")
    assert [source.poll(), source.poll()] == [None, None]
    assert source.read() == before
    assert world.errors == len(lines) == 1
    assert lines[0].startswith("[ERROR] Invalid config: the template has __PILLAR__CLUSTER__DNS__")


def unwritable(conf: Path) -> None:
    """A name at which nothing can be written, even by root: a link that leads round."""
    conf.unlink(missing_ok=True)
    conf.symlink_to(conf.name)


def test_a_conf_that_can_neither_be_written_nor_read(world: World, lines: list[str]) -> None:
    unwritable(world.conf)
    with pytest.raises(UsageError, match="Corefile"):
        world.source().first()
    assert world.errors == 1
    assert lines[0].startswith(f"[ERROR] Failed to write config file {world.conf} - err ")


def test_a_conf_that_cannot_be_written_but_read(
    world: World, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older kubespray points -conf into a read-only ConfigMap (node-network.md section 9)."""
    world.conf.write_text("mine\n")

    def refuse(file: Path, text: str) -> None:
        raise OSError(30, os.strerror(30), str(file))

    with monkeypatch.context() as patch:
        patch.setattr(nodecache, "replace_text", refuse)
        source = world.source()
        assert source.first() == source.read() == "mine\n"
        assert lines == [
            f"[ERROR] Failed to write config file {world.conf} - err Read-only file system",
            f"[WARNING] {world.conf} is used as it is",
        ]
        assert [source.poll(), source.poll()] == [None, None]
        assert world.errors == 1
    assert source.poll() == world.conf.read_text() == "base /etc/resolv.conf\n"  # it was only for a time


def test_a_plain_corefile(world: World) -> None:
    """`fastdns serve --conf`: no template, whatever lies about."""
    world.conf.write_text("plain\r\n")
    source = world.source(Options(conf=str(world.conf)))
    assert source.first() == source.read() == "plain\r\n"
    world.conf.write_text("other\n")
    assert source.poll() is None
    assert source.read() == "other\n"


def test_a_corefile_from_a_pipe(world: World) -> None:
    source = world.source(Options(conf="stdin", conf_text="piped\n", node=NodeOptions(("::1",))))
    assert source.first() == source.read() == "piped\n"
    assert source.poll() is None


@pytest.mark.parametrize("data", [b"\xff", b" " * (2**20 + 1)])
def test_a_corefile_that_is_none(world: World, data: bytes) -> None:
    world.conf.write_bytes(data)
    with pytest.raises(UsageError, match="Corefile"):
        world.source(Options(conf=str(world.conf))).first()


# ------------------------------------------------------------------------------ writing a file whole --


def test_a_new_file_has_the_mode_of_any(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        replace_text(tmp_path / "new", "\u00e4\n")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == "\u00e4\n".encode()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_readers_of_the_old_file_keep_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old old old")
    file.chmod(0o640)
    with file.open() as reader:
        assert reader.read(3) == "old"
        replace_text(file, "new")
        assert reader.read() == " old old"
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_what_is_right_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("same")
    before = file.stat()
    replace_text(file, "same")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    (tmp_path / "link").symlink_to("folder/file")
    replace_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "new"


def test_a_leftover_of_one_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".file.fastdns").write_text("half")
    replace_text(tmp_path / "file", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_nothing_can_be_moved_it_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is mounted by itself: rename says EBUSY."""
    file = tmp_path / "file"
    file.write_text("older and longer")

    def busy(self: Path, target: Path) -> Path:
        raise OSError(16, os.strerror(16), str(target))

    monkeypatch.setattr(Path, "replace", busy)
    inode = file.stat().st_ino
    replace_text(file, "new")
    assert (file.read_text(), file.stat().st_ino) == ("new", inode)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, os.strerror(28), str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        replace_text(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_files_are_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        replace_text(tmp_path / "pipe", "text")
    with pytest.raises(OSError, match="not a regular file"):
        replace_text(tmp_path, "text")
    with pytest.raises(FileNotFoundError):
        replace_text(tmp_path / "absent" / "file", "text")


def test_errors_before_there_is_a_ledger_are_counted_in_it() -> None:
    descriptor = _segments.create_ledger()
    try:
        ledger = _stats.Ledger(descriptor)
        errors = ErrorCount("setup_errors_configmap")
        errors()
        errors()
        errors.attach(ledger)
        assert ledger.read()["setup_errors_configmap"] == 2
        errors()
        assert ledger.read()["setup_errors_configmap"] == 3
    finally:
        os.close(descriptor)
