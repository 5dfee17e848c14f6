# SPDX-License-Identifier: Apache-2.0
"""The container image: built from nothing, it is an init container, and answers a question. `make image`.

It is run by `buildah run` without namespaces of its own but the network's, which a test gives it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.rcode
import pytest

from fastdns._version import __version__
from tests.certificates import SERVER_NAME, Authority
from tests.peers import run as peers
from tests.peers.run import LOOPBACK, find_program
from tests.system.chart import FORMS, RESOLVER, check_answers, check_lines, cluster, node_of, template_of
from tests.system.clients import UDP, Client
from tests.system.netns import network, skip_without_network_namespaces
from tests.system.server import ROOT, is_answering

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200), skip_without_network_namespaces]

BUILD = str(ROOT / "docker" / "build.sh")
IMAGE = "localhost/fastdns:test"
CLUSTER_DNS = "10.43.0.10"
START_S = 30.0
SIZE_MAX_MB = 200
AUTHORITIES_MIN = 100  # Debian has some 140


def buildah(*arguments: str) -> str:
    done = subprocess.run([BUILD, "--buildah", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """A container of the image, built just now."""
    for program in ("buildah", "debootstrap"):
        find_program(program)
    done = subprocess.run([BUILD, IMAGE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]
    # A run has a resolv.conf of buildah's making, with this server in it.
    name = buildah("from", "--pull-never", "--dns", RESOLVER, IMAGE)
    try:
        yield name
    finally:
        buildah("rm", name)


def inside(container: str, *command: str, options: Sequence[str] = ()) -> list[str]:
    """The words that run a command in the container, with what the chart's container may."""
    return [BUILD, "--buildah", "run", "--cap-add", "CAP_NET_ADMIN", *options, container, "--", *command]


def run_inside(container: str, *command: str, timeout_s: float = 30) -> tuple[int, str]:
    done = subprocess.run(
        inside(container, *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def test_the_entry_point_takes_the_arguments(container: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
    assert config["Entrypoint"] == ["/usr/local/bin/node-cache"]
    assert not config.get("Cmd")
    assert not config.get("User"), "it needs root to bind and to become others"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    code, output = run_inside(container, *config["Entrypoint"], "-version")
    assert (code, output.splitlines()[0].split()[0]) == (0, f"fastdns-{__version__}")
    code, output = run_inside(container, *config["Entrypoint"], "-nonsense")
    assert code == 2
    assert output.startswith("node-cache: flag provided but not defined: -nonsense\n")


@pytest.mark.parametrize(
    "program", ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy", "nft"]
)
def test_the_programs_for_rules_are_there(container: str, program: str) -> None:
    code, output = run_inside(container, program, "--version")
    assert code == 0, output


def test_an_upstream_s_certificate_is_from_the_system_s_authorities(container: str, tmp_path: Path) -> None:
    """A CA that the operator gives the system counts, as Debian's do; the Corefile names none."""
    code, output = run_inside(container, "sh", "-c", "ls /usr/lib/ssl/certs/*.pem | wc -l")
    assert code == 0
    assert int(output) > AUTHORITIES_MIN
    authority, endpoint = Authority(tmp_path), ("127.0.0.2", 53)
    to = f"tls://{LOOPBACK}%{SERVER_NAME}"
    (tmp_path / "Corefile").write_text(f".:53 {{\nbind 127.0.0.2\nforward . {to}\n}}\n")
    options = [f"--volume={authority.file}:/usr/local/share/ca-certificates/own.crt:ro"]
    options.append(f"--volume={tmp_path / 'Corefile'}:/etc/Corefile:ro")
    script = "update-ca-certificates && exec fastdns serve --conf /etc/Corefile"
    with (
        network() as net,
        net.entered(),
        peers.coredns() as coredns,
        peers.unbound(coredns.server, tls=peers.Tls(853, *authority.sign())),
        running(inside(container, "sh", "-c", script, options=options)),
    ):
        wait_until_it_answers(endpoint)
        with Client(endpoint) as client:
            response = client.ask("kubernetes.default.svc.cluster.local", "A", UDP)
    assert response.rcode() == dns.rcode.NOERROR


def wait_until_it_answers(endpoint: tuple[str, int]) -> None:
    deadline = time.monotonic() + START_S
    while not is_answering(endpoint):
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.05)


def test_nothing_is_left_of_the_build(container: str) -> None:
    names = r"\( -name '*.pyx' -o -name '*.c' -o -name '_testing' \)"
    script = f"command -v gcc cc pip; find / -xdev {names} -path '*fastdns*'; true"
    assert run_inside(container, "sh", "-c", script) == (0, "")
    code, output = run_inside(container, "du", "-sxcm", "/usr", "/opt", "/var", "/etc")
    assert code == 0, output
    assert int(output.splitlines()[-1].split()[0]) < SIZE_MAX_MB


def test_it_is_the_chart_s_init_container(container: str) -> None:
    """The command of rke2-coredns' wait-coredns, to the letter; it ends as soon as somebody listens."""
    command = f"until nc -zv -u {CLUSTER_DNS} 53; do echo waiting for dns service; sleep 2; done"
    with network() as net:
        net.add_address(f"{CLUSTER_DNS}/32")
        with net.entered(), running(inside(container, "sh", "-c", command)) as waiting:
            assert waiting.stdout is not None
            assert any(b"waiting for dns service" in line for line in iter(waiting.stdout.readline, b""))
            with peers.coredns(port=53, address=CLUSTER_DNS):
                assert waiting.wait(START_S) == 0


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a group of its own, none of which is left afterwards."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_it_takes_the_chart_s_place(container: str) -> None:
    """The chart's arguments and template, in the form that needs nothing of the node (Cilium)."""
    form = FORMS["cilium"]
    with cluster() as behind, node_of(behind) as node:
        node.write("coredns/Corefile.base", template_of(form))
        options = [f"--env={name}={value}" for name, value in node.environ.items()]
        options.append(f"--volume={node.etc / 'coredns'}:/etc/coredns:ro")
        command = inside(container, "node-cache", *form.arguments, options=options)
        with node.run(command, asked=form.asked) as running:
            check_answers(form)
            corefile = check_lines(running, template_of(form))
            assert run_inside(container, "cat", "/etc/Corefile") == (0, corefile)
