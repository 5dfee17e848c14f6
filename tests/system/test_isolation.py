# SPDX-License-Identifier: Apache-2.0
"""What a worker that has been taken over could do to the others: nothing.

Production code has no hook to run a test's code inside a worker, so a probe takes a worker's place: a
process with the same uid, gid, groups, capabilities and no_new_privs (compared with the worker's
/proc/PID/status before anything is tried) and with copies of the worker's own descriptors (pidfd_getfd). To
the kernel, which alone decides here, they are the same: it knows a process by its credentials, descriptors
and mappings. The mappings of the real worker are checked from outside.
"""

import ctypes
import errno
import json
import mmap
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.run import Peer
from tests.system.clients import Client
from tests.system.server import Server, default_environment, serve

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: only then do the children become others"
)

PIDFD_GETFD = 438
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 4, 38, 24
CREDENTIALS = (
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
)
CACHE_MEMFD = "memfd:fastdns-cache"
PERMISSION = {errno.EPERM: "EPERM", errno.EACCES: "EACCES"}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@pytest.fixture(scope="module")
def fortress(coredns: Peer) -> Iterator[Server]:
    """A server with an answer in its cache."""
    with serve(coredns.server) as server, Client(server.endpoint) as client:
        client.ask("nginx-svc.default.svc.cluster.local")
        yield server


def credentials(pid: int | str) -> dict[str, str]:
    """The lines of /proc/PID/status that say what the kernel lets a process do."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    found = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {key: found[key] for key in CREDENTIALS if key in found}


def descriptors(pid: int) -> dict[int, str]:
    """Open descriptors and what they lead to."""
    return {int(link.name): str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}


def open_flags(pid: int, fd: int) -> int:
    info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text(encoding="ascii")
    found = re.search(r"^flags:\s+(\d+)", info, re.MULTILINE)
    assert found
    return int(found[1], 8)


def test_children_are_others(fortress: Server) -> None:
    """Workers and coordinator run under two uids that aren't root's, and have no capabilities."""
    stats = fortress.stats()
    workers = [credentials(child["pid"]) for child in stats.children if child["role"] == "worker"]
    coordinator = credentials(fortress.pid("coordinator"))
    assert all(worker == workers[0] for worker in workers)
    uids = {int(process["Uid"].split()[0]) for process in (*workers, coordinator)}
    assert len(uids) == 2
    assert 0 not in uids
    for process in (*workers, coordinator):
        assert len(set(process["Uid"].split())) == 1, "real, effective, saved and filesystem uid"
        assert len(set(process["Gid"].split())) == 1
        assert process["Gid"].split()[0] != "0"
        assert process["Groups"] == ""
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(process[name], 16) == 0, name


def test_a_worker_holds_only_its_own(fortress: Server) -> None:
    """Descriptors of a worker: the cache read-only, its own region, no other's, no upstream socket."""
    for index in (0, 1):
        pid = fortress.pid("worker", index)
        held = descriptors(pid)
        segments = [(fd, target) for fd, target in held.items() if "memfd:fastdns" in target]
        names = sorted(target.partition("memfd:")[2].split()[0] for _, target in segments)
        assert "fastdns-cache" in names
        assert f"fastdns-worker-{index}" in names
        assert f"fastdns-worker-{1 - index}" not in names
        assert "fastdns-coordinator" not in names
        for fd, target in segments:
            if CACHE_MEMFD in target:
                assert open_flags(pid, fd) & os.O_ACCMODE == os.O_RDONLY


def test_mappings_of_the_cache(fortress: Server) -> None:
    """In the real workers' memory the cache is mapped, readable, shared, and nowhere writable."""
    for index in (0, 1):
        maps = Path(f"/proc/{fortress.pid('worker', index)}/maps").read_text(encoding="utf-8")
        permissions = {line.split()[1] for line in maps.splitlines() if CACHE_MEMFD in line}
        assert permissions == {"r--s"}
        assert "memfd:fastdns-coordinator" not in maps
        assert f"memfd:fastdns-worker-{1 - index}" not in maps
    maps = Path(f"/proc/{fortress.pid('coordinator')}/maps").read_text(encoding="utf-8")
    assert {line.split()[1] for line in maps.splitlines() if CACHE_MEMFD in line} == {"rw-s"}


def test_nothing_works_from_inside_a_worker(fortress: Server) -> None:
    """Writing to the cache by any way, killing or reading the others: each refused with EPERM or EACCES."""
    targets = {
        "keeper": fortress.process.pid,
        "control": fortress.pid("control"),
        "coordinator": fortress.pid("coordinator"),
    }
    probe = subprocess.run(
        [sys.executable, __file__, str(fortress.pid("worker", 0)), json.dumps(targets)],
        capture_output=True,
        text=True,
        env=default_environment(),
        timeout=20,
        check=False,
    )
    assert probe.returncode == 0, probe.stdout + probe.stderr
    outcome: dict[str, str] = json.loads(probe.stdout)
    allowed = {name: result for name, result in outcome.items() if result not in PERMISSION.values()}
    assert not allowed, f"a worker may: {allowed}"
    assert len(outcome) >= 6 + 6 * len(targets)
    with Client(fortress.endpoint) as client:
        assert client.ask("nginx-svc.default.svc.cluster.local").answer
    assert not fortress.stats().restarts


# ------------------------------------------------------------------- the probe, a process of its own ----


def attempt(action: Callable[[], object]) -> str:
    """How it was refused: the errno's name; "done" if it wasn't."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "done"


def checked(result: int) -> int:
    """The result of a C call, or its errno as an exception."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def become_worker(pid: int) -> dict[str, int]:
    """Take the worker's descriptors and credentials. Returns the shared-memory descriptors by name."""
    wanted = credentials(pid)
    pidfd = os.pidfd_open(pid)
    held = {
        target.partition("memfd:")[2].split()[0]: checked(_libc.syscall(PIDFD_GETFD, pidfd, fd, 0))
        for fd, target in descriptors(pid).items()
        if "memfd:" in target
    }
    os.close(pidfd)
    bounding = int(wanted["CapBnd"], 16)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii")) + 1):
        if not bounding >> capability & 1:
            checked(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
    gid, uid = int(wanted["Gid"].split()[0]), int(wanted["Uid"].split()[0])
    os.setgroups([int(group) for group in wanted["Groups"].split()])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)  # takes the capabilities away
    if wanted.get("NoNewPrivs") == "1":
        checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    mine = credentials("self")
    if mine != wanted:
        raise SystemExit(f"the probe isn't like the worker: {mine}, not {wanted}")
    return held


def try_memory(cache: int) -> dict[str, str]:
    """Everything that could make the cache writable."""
    size = os.fstat(cache).st_size
    base = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, cache, 0)
    if base in (None, ctypes.c_void_p(-1).value):
        raise SystemExit("the cache can't even be mapped for reading: nothing is tested")
    if ctypes.string_at(base, 8) != b"FASDNSC1":
        raise SystemExit("this isn't the cache")

    def map_writable() -> None:
        mmap.mmap(cache, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    return {
        "mprotect": attempt(lambda: checked(_libc.mprotect(base, size, mmap.PROT_READ | mmap.PROT_WRITE))),
        "map for writing": attempt(map_writable),
        "reopen for writing": attempt(lambda: os.open(f"/proc/self/fd/{cache}", os.O_RDWR)),
        "reopen for appending": attempt(lambda: os.open(f"/proc/self/fd/{cache}", os.O_WRONLY | os.O_APPEND)),
        "chmod": attempt(lambda: os.fchmod(cache, 0o666)),
        "truncate": attempt(lambda: os.truncate(f"/proc/self/fd/{cache}", 4096)),
        # The kernel's word for a descriptor that isn't open for writing is EBADF.
        "write": attempt(lambda: os.pwrite(cache, b"x", 0)).replace("EBADF", "EACCES"),
    }


def try_process(name: str, pid: int) -> dict[str, str]:
    """Everything that one process could do to another."""
    pidfd = os.pidfd_open(pid)
    return {
        f"kill {name}": attempt(lambda: os.kill(pid, signal.SIGKILL)),
        f"stop {name}": attempt(lambda: os.kill(pid, signal.SIGSTOP)),
        f"ptrace {name}": attempt(lambda: checked(_libc.ptrace(PTRACE_ATTACH, pid, None, None))),
        f"seize {name}": attempt(lambda: checked(_libc.ptrace(PTRACE_SEIZE, pid, None, None))),
        f"memory of {name}": attempt(lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR)),
        f"descriptors of {name}": attempt(lambda: list(Path(f"/proc/{pid}/fd").iterdir())),
        f"a descriptor of {name}": attempt(lambda: checked(_libc.syscall(PIDFD_GETFD, pidfd, 0, 0))),
    }


def main() -> None:
    worker, targets = int(sys.argv[1]), json.loads(sys.argv[2])
    held = become_worker(worker)
    # A change of uid leaves a process undumpable, which closes even its own /proc/self/fd to it. A worker can
    # undo that, and must be refused all the same.
    checked(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    outcome = try_memory(held["fastdns-cache"])
    for name, pid in targets.items():
        outcome |= try_process(name, pid)
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    main()
