# SPDX-License-Identifier: Apache-2.0
"""Server blocks of a Corefile on a running server: zones, steps, an upstream that sends questions back."""

import time
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.coordtools import Asked, Reply, Upstream, records, reply
from tests.peers.run import free_port
from tests.system.server import LOOPBACK, Server, serve

pytestmark = pytest.mark.system

COREFILE = """
. {
    bind 127.0.0.1
    errors
    cache 30
    rewrite name suffix .old.test .new.test answer auto
    rewrite name regex (.*)\\.more\\.test {1}.new.test answer auto
    hosts HOSTS {
        10.9.8.7 box.test
        fallthrough
    }
    forward corp 127.0.0.1:TWO {
        except lab.corp
    }
    forward . 127.0.0.1:ONE
}
who.test {
    bind 127.0.0.1
    whoami
}
empty.test {
    bind 127.0.0.1
}
"""

LOOPING = """
. {
    bind 127.0.0.1
    cache 30
    loop
    forward . 127.0.0.1:SELF 127.0.0.1:ONE
}
"""


def ask(server: Server, name: str, qtype: str = "A") -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, qtype), LOOPBACK, port=server.endpoint[1], timeout=5)


def texts(message: dns.message.Message) -> list[str]:
    return [rrset.to_text() for rrset in (*message.answer, *message.additional)]


def corefile(folder: Path, text: str, port: int, **words: object) -> Path:
    for word, value in words.items():
        text = text.replace(word, str(value))
    path = folder / "Corefile"
    path.write_text(text.replace(" {\n    bind", f":{port} {{\n    bind"))
    return path


def test_blocks_and_steps(tmp_path: Path) -> None:
    port = free_port()
    hosts = tmp_path / "hosts"
    hosts.write_text("10.9.8.6 file.test\n")

    def one(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"))

    def two(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 300, "A", "192.0.2.2"))

    with Upstream(one) as first, Upstream(two) as second:
        conf = corefile(tmp_path, COREFILE, port, HOSTS=hosts, ONE=first.port, TWO=second.port)
        with serve((LOOPBACK, 1), listen=[(LOOPBACK, port)], conf=conf) as server:
            assert texts(ask(server, "www.old.test")) == ["www.old.test. 30 IN A 192.0.2.1"]
            assert texts(ask(server, "www.more.test")) == ["www.more.test. 30 IN A 192.0.2.1"]
            assert [asked.qname for asked in first.asked].count("www.new.test.") == 2
            assert texts(ask(server, "box.test")) == ["box.test. 30 IN A 10.9.8.7"]
            assert texts(ask(server, "file.test")) == ["file.test. 30 IN A 10.9.8.6"]
            assert texts(ask(server, "www.corp")) == ["www.corp. 30 IN A 192.0.2.2"]
            assert texts(ask(server, "www.lab.corp")) == ["www.lab.corp. 30 IN A 192.0.2.1"]
            who = ask(server, "x.who.test")
            assert texts(who)[0] == "x.who.test. 0 IN A 127.0.0.1"
            assert ask(server, "x.empty.test").rcode() == dns.rcode.REFUSED
            again = len(first.asked)
            for name in ("www.old.test", "www.more.test", "www.lab.corp"):
                ask(server, name)
            assert len(first.asked) == again, "once per name, not once per query"


def test_an_upstream_that_sends_questions_back(tmp_path: Path) -> None:
    port = free_port()

    def one(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"))

    with Upstream(one) as other:
        conf = corefile(tmp_path, LOOPING, port, SELF=port, ONE=other.port)
        with serve((LOOPBACK, 1), listen=[(LOOPBACK, port)], conf=conf) as server:
            end = time.monotonic() + 5
            while server.stats().coordinator["counters"]["loops"] == 0:
                assert time.monotonic() < end, "the loop was not found"
                time.sleep(0.02)
            assert texts(ask(server, "www.example")) == ["www.example. 30 IN A 192.0.2.1"]
            wanted = f"plugin/loop: Loop (127.0.0.1:{port} -> us) detected"
            while wanted not in server.said():
                assert time.monotonic() < end, server.said()
                time.sleep(0.02)
            assert server.process.poll() is None, "node-cache would end"
