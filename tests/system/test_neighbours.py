# SPDX-License-Identifier: Apache-2.0
"""Others on the same address and port: an old pod that hasn't gone, a socket that nobody reads.

All sockets of one uid that are bound with SO_REUSEPORT form one group, whoever made them (design, "Sockets").
"""

import socket
import time

import dns.rcode

from fastdns.loadgen.process import finish_process, start_process
from fastdns.loadgen.spec import LoadSpec
from tests.peers.run import Peer, free_port
from tests.system.clients import TCP, UDP, Client
from tests.system.server import LOOPBACK, Server, serve

NAME = "nginx-svc.default.svc.cluster.local"


def test_second_server_on_the_same_address(coredns: Peer) -> None:
    """A second server comes while the first works, then the first goes: the second does all."""
    listen = [(LOOPBACK, free_port())]
    with serve(coredns.server, listen=listen) as first:
        load = LoadSpec(listen[0], names=[(NAME, "A")], seconds=2.5, rate=2_000, window=4_000, timeout_s=2.0)
        running = start_process(load)
        with serve(coredns.server, listen=listen) as second:
            result = finish_process(running, 30.0)
            assert result.timeouts == 0, result
            wait_for_words(second, "does not get its share")
            first.stop()
            time.sleep(0.2)
            before = second.stats()
            with Client(listen[0]) as client:
                for _ in range(200):
                    assert client.ask(NAME, "A", UDP).rcode() == dns.rcode.NOERROR
                    assert client.ask(NAME, "A", TCP).rcode() == dns.rcode.NOERROR
            after = second.stats()
            assert after.counter("replies_udp") - before.counter("replies_udp") == 200
            assert after.counter("replies_tcp") - before.counter("replies_tcp") == 200


def test_socket_that_nobody_reads(coredns: Peer) -> None:
    """A foreign socket takes its share of the questions; that is seen and said, the rest is answered."""
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind((LOOPBACK, port))
        with serve(coredns.server, listen=[(LOOPBACK, port)]) as server:
            wait_for_words(server, "does not get its share")
            answered = 0
            for _ in range(60):
                with Client(server.endpoint, timeout_s=0.1) as client:
                    try:
                        answered += client.ask(NAME).rcode() == dns.rcode.NOERROR
                    except TimeoutError:
                        continue
            assert answered >= 20, "of 60 sockets a third hash to the foreign one"


def wait_for_words(server: Server, words: str) -> None:
    server.wait_for(lambda _stats: words in server.said(), f"a line with {words!r}", 10.0)
