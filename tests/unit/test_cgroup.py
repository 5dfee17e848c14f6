# SPDX-License-Identifier: Apache-2.0
"""The memory limit of our cgroup and its parents, read from trees as nodes have them."""

from pathlib import Path

from fastdns.control.cgroup import MemoryLimit, memory_limit

V2 = "31 23 0:28 {root} {point} rw,relatime - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 {root} {point} rw,relatime shared:7 - cgroup cgroup rw,{controllers}\n"


def make_tree(root: Path, *, cgroup: str, mountinfo: str, limits: dict[str, str]) -> Path:
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text("22 1 0:20 / / rw - ext4 /dev/vda rw\n" + mountinfo)
    for file, text in limits.items():
        path = root / file.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_v2_the_lowest_of_all_parents(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="0::/kubepods/burstable/pod1/c1\n",
        mountinfo=V2.format(root="/", point="/sys/fs/cgroup"),
        limits={
            "/sys/fs/cgroup/kubepods/memory.max": "8000000000",
            "/sys/fs/cgroup/kubepods/burstable/memory.max": "max",
            "/sys/fs/cgroup/kubepods/burstable/pod1/memory.max": "134217728",
            "/sys/fs/cgroup/kubepods/burstable/pod1/c1/memory.max": "max",
            "/sys/fs/cgroup/other/memory.max": "1",
        },
    )
    assert memory_limit(root) == MemoryLimit(134217728, "/sys/fs/cgroup/kubepods/burstable/pod1/memory.max")


def test_v2_own_namespace(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="0::/\n",
        mountinfo=V2.format(root="/", point="/sys/fs/cgroup"),
        limits={"/sys/fs/cgroup/memory.max": "67108864"},
    )
    assert memory_limit(root) == MemoryLimit(67108864, "/sys/fs/cgroup/memory.max")


def test_v1_no_namespace_the_mount_shows_our_part_only(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="9:name=systemd:/kubepods/pod1/c1\n4:cpu,memory:/kubepods/pod1/c1\n0::/\n",
        mountinfo=V1.format(
            root="/kubepods/pod1/c1", point="/sys/fs/cgroup/memory", controllers="cpu,memory"
        ),
        limits={"/sys/fs/cgroup/memory/memory.limit_in_bytes": "52428800"},
    )
    assert memory_limit(root) == MemoryLimit(52428800, "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def test_hybrid_v1_has_the_memory_controller(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="5:devices:/\n4:memory:/a/b\n0::/x\n",
        mountinfo=V1.format(root="/", point="/sys/fs/cgroup/memory", controllers="memory")
        + V1.format(root="/", point="/sys/fs/cgroup/devices", controllers="devices")
        + V2.format(root="/", point="/sys/fs/cgroup/unified"),
        limits={
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "104857600",
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "209715200",
            "/sys/fs/cgroup/devices/memory.limit_in_bytes": "1",
        },
    )
    assert memory_limit(root) == MemoryLimit(104857600, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes")


def test_both_hierarchies_count(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="4:memory:/\n0::/x\n",
        mountinfo=V1.format(root="/", point="/cg/memory", controllers="memory")
        + V2.format(root="/", point="/cg/unified"),
        limits={"/cg/memory/memory.limit_in_bytes": "300", "/cg/unified/x/memory.max": "200"},
    )
    assert memory_limit(root) == MemoryLimit(200, "/cg/unified/x/memory.max")


def test_a_path_outside_the_mount_falls_back_to_what_can_be_seen(tmp_path: Path) -> None:
    for number, path in enumerate(("/../sibling", "/elsewhere/x")):
        root = make_tree(
            tmp_path / str(number),
            cgroup=f"0::{path}\n",
            mountinfo=V2.format(root="/kubepods/pod1", point="/sys/fs/cgroup"),
            limits={"/sys/fs/cgroup/memory.max": "7", "/sys/fs/memory.max": "1", "/memory.max": "1"},
        )
        assert memory_limit(root) == MemoryLimit(7, "/sys/fs/cgroup/memory.max")


def test_mount_points_with_spaces(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="0::/a\n",
        mountinfo=V2.format(root="/", point="/my\\040cgroups"),
        limits={"/my cgroups/a/memory.max": "5"},
    )
    assert memory_limit(root) == MemoryLimit(5, "/my cgroups/a/memory.max")


def test_no_limit_anywhere(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        cgroup="0::/a\n",
        mountinfo=V2.format(root="/", point="/cg"),
        limits={"/cg/a/memory.max": "max", "/cg/memory.max": "what is this"},
    )
    assert memory_limit(root) is None
    assert memory_limit(tmp_path / "nothing here") is None


def test_this_machine_can_be_read() -> None:
    limit = memory_limit()
    assert limit is None or limit.octets > 0
