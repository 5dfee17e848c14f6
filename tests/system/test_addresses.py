# SPDX-License-Identifier: Apache-2.0
"""Which address is asked, and from which the answer comes. Each test has a network namespace of its own.

A client's socket is connected, so it hears nothing but what comes from the address and port that it asked.
"""

import socket
import struct
from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest

from tests.peers import run as peers
from tests.peers.run import Peer
from tests.system.clients import TCP, UDP, Client, Variant
from tests.system.netns import Network, join_networks, network, skip_without_network_namespaces
from tests.system.packets import send_udp
from tests.system.server import refusal, serve

pytestmark = skip_without_network_namespaces

NAME = "nginx-svc.default.svc.cluster.local"
ADDRESS = "10.43.10.20"
OWN_PROBES = 4 * 2 * 2  # control sends each worker four datagrams of 2 octets through each of two listeners
V4 = [f"198.51.100.{host}" for host in (1, 2, 3)]
V6 = [f"2001:db8:53::{host}" for host in (1, 2, 3)]


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Network, Peer]]:
    """A namespace with three addresses of each family on its loopback, and CoreDNS in it."""
    with network() as net:
        for address in V4:
            net.add_address(f"{address}/32")
        for address in V6:
            net.add_address(f"{address}/128")
        with net.entered(), peers.coredns() as upstream:
            yield net, upstream


def assert_answers(client: Client, *variants: Variant) -> None:
    """A hit or a miss, by each variant."""
    for variant in variants or (UDP, TCP, Variant(edns=1232)):
        response = client.ask(NAME, "A", variant)
        assert [str(rdata) for rdata in response.answer[0]] == [ADDRESS]


def test_ipv4_and_ipv6_side_by_side(site: tuple[Network, Peer]) -> None:
    """One listener of each family on the same port; answers come from each."""
    _, upstream = site
    with serve(upstream.server, listen=[(V4[0], 53), (V6[0], 53)]) as server:
        for address in (V4[0], V6[0]):
            for _ in range(8):  # clients' ports and message IDs fall on both workers
                with Client((address, 53)) as client:
                    assert_answers(client)
        stats = server.stats()
        assert all(stats.worker_counter(index, "replies_udp") > 0 for index in (0, 1))
        with Client((V4[1], 53), timeout_s=0.5) as nobody, pytest.raises(OSError):
            nobody.ask(NAME)  # an address that nobody listens on: refused by the kernel


@pytest.mark.parametrize("listen", [[("0.0.0.0", 53), ("::", 53)], [("::", 53), ("0.0.0.0", 53)]], ids=str)
def test_wildcards_answer_from_the_address_asked(
    site: tuple[Network, Peer], listen: list[tuple[str, int]]
) -> None:
    """Both wildcards on one port (IPV6_V6ONLY), and the reply's source is the address asked, hit or miss."""
    _, upstream = site
    with serve(upstream.server, listen=listen):
        for address in (*V4, *V6, "127.0.0.1", "::1", "127.9.8.7"):
            with Client((address, 53)) as client:
                assert_answers(client)
                missing = client.ask(f"never-{address.replace(':', '-').replace('.', '-')}.cluster.local")
                assert missing.rcode() == dns.rcode.NXDOMAIN


def test_own_address_as_source(site: tuple[Network, Peer]) -> None:
    """A host process that asks a local address has that very address as its source: it is answered."""
    _, upstream = site
    listen = [(V4[0], 53), (V6[0], 53), ("0.0.0.0", 5353)]
    with serve(upstream.server, listen=listen):
        for endpoint in ((V4[0], 53), (V6[0], 53), (V4[1], 5353)):
            for _ in range(8):
                with Client(endpoint, source=(endpoint[0], 0)) as client:
                    assert_answers(client, UDP)


def test_what_is_dropped_and_counted(site: tuple[Network, Peer]) -> None:
    """No reply to: QR=1, under 12 octets, from port 0, from a listener's own address and port (a loop)."""
    _, upstream = site
    with serve(upstream.server, listen=[(V4[0], 53), (V4[1], 53)]) as server, Client((V4[0], 53)) as client:
        assert_answers(client)
        before = server.wait_for(
            lambda stats: stats.counter("dropped_short") >= OWN_PROBES, "control's look at the listeners"
        )
        query = dns.message.make_query(NAME, "A").to_wire()
        response_bit = query[:2] + bytes([query[2] | 0x80]) + query[3:]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((V4[0], 53))
            sock.settimeout(0.3)
            for octets in (response_bit, b"", query[:1], query[:2], query[:11]):
                for _ in range(2):
                    sock.send(octets)
            for source in ((V4[2], 0), (V4[0], 53), (V4[1], 53)):
                for number in (0, 1):  # one to each worker
                    send_udp(source, (V4[0], 53), struct.pack("!H", number) + query[2:])
            with pytest.raises(TimeoutError):
                sock.recv(512)
        assert_answers(client)
        after = server.wait_for(
            lambda stats: stats.counter("udp_queries") >= before.counter("udp_queries") + 16 + 2,
            "all that was sent counted",
        )
        grown = {
            name: after.counter(name) - before.counter(name)
            for name in ("dropped_response", "dropped_short", "dropped_source")
        }
        assert grown == {"dropped_response": 2, "dropped_short": 8, "dropped_source": 6}
        assert not after.restarts


def test_link_local(site: tuple[Network, Peer]) -> None:
    """A link-local listener, and a wildcard asked on a link-local address: the reply keeps the scope."""
    net, upstream = site
    with network() as pod:
        join_networks(net, pod)
        net.add_address("fe80::53/64", "cable")
        pod.add_address("fe80::1/64", "cable")
        for listen in (("fe80::53%cable", 53), ("::", 53)):
            with serve(upstream.server, listen=[("127.0.0.1", 53), listen]):
                with pod.entered():
                    for _ in range(4):
                        with Client(("fe80::53%cable", 53)) as client:
                            assert_answers(client)
                            missing = client.ask(f"never-{listen[0][0]}.cluster.local")
                            assert missing.rcode() == dns.rcode.NXDOMAIN


def test_port_taken_is_one_line(site: tuple[Network, Peer]) -> None:
    """An address that isn't here, a port that another program has: one line that names it."""
    _, upstream = site
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind((V4[2], 53))
        other.listen()
        for address in ("203.0.113.1", V4[2]):
            arguments = ["--listen", f"{address}:53", "--upstream", f"127.0.0.1:{upstream.port}"]
            code, said = refusal(arguments)
            assert code in (1, 2)
            assert address in said
            assert len(said.strip().splitlines()) == 1, said
