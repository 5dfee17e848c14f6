# SPDX-License-Identifier: Apache-2.0
"""A scripted upstream that counts: UDP and TCP on one loopback port, in a thread with an asyncio loop.

    def script(question):
        if question.number == 1:
            return []                                     # silence
        return [Reply(answer(question, "192.0.2.1"), delay_s=0.1)]

    with mock_upstream(script) as upstream:
        ...
        assert len(upstream.questions) == 2

The script is called once for each question that arrives and returns what goes back, in order; it is called in
the loop's thread, one question at a time.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

RECEIVE_BUFFER = 4 << 20  # octets; a burst of misses is the point of some tests


@dataclass(frozen=True)
class Question:
    """A question as it arrived."""

    number: int  # 1 for the first one with this name and type
    message: dns.message.Message
    peer: tuple[str, int]
    tcp: bool
    at: float  # time.monotonic()

    @property
    def name(self) -> str:
        return self.message.question[0].name.to_text(omit_final_dot=True).lower()

    @property
    def rdtype(self) -> dns.rdatatype.RdataType:
        return self.message.question[0].rdtype


@dataclass(frozen=True)
class Reply:
    """Octets to send after `delay_s`; over TCP `reset` closes the connection with a RST in place of them."""

    wire: bytes = b""
    delay_s: float = 0.0
    reset: bool = False


Script = Callable[[Question], Sequence[Reply]]


def answer(question: Question, *addresses: str, ttl: int = 300) -> bytes:
    """NOERROR with the addresses, for A and AAAA; NODATA for other types and for no addresses."""
    response = dns.message.make_response(question.message, recursion_available=True)
    wanted = [address for address in addresses if (":" in address) == (question.rdtype == dns.rdatatype.AAAA)]
    if wanted and question.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
        name = question.message.question[0].name
        response.answer.append(dns.rrset.from_text_list(name, ttl, "IN", question.rdtype, wanted))
    else:
        response.authority.append(_soa(question, ttl))
    return response.to_wire(max_size=65535)


def nxdomain(question: Question, ttl: int = 300) -> bytes:
    response = dns.message.make_response(question.message, recursion_available=True)
    response.set_rcode(dns.rcode.NXDOMAIN)
    response.authority.append(_soa(question, ttl))
    return response.to_wire()


def failure(question: Question, rcode: dns.rcode.Rcode = dns.rcode.SERVFAIL) -> bytes:
    response = dns.message.make_response(question.message, recursion_available=True)
    response.set_rcode(rcode)
    return response.to_wire()


def truncated(question: Question) -> bytes:
    response = dns.message.make_response(question.message, recursion_available=True)
    response.flags |= dns.flags.TC
    return response.to_wire()


def with_other_id(wire: bytes) -> bytes:
    """The same response with another ID: a blind spoofer's guess."""
    return struct.pack("!H", struct.unpack_from("!H", wire)[0] ^ 0x5555) + wire[2:]


def with_other_question(question: Question, *addresses: str) -> bytes:
    """The right ID, and a question and an answer for another name."""
    forged = dns.message.make_response(question.message, recursion_available=True)
    name = dns.name.from_text("forged.example.test")
    forged.question = [dns.rrset.RRset(name, question.message.question[0].rdclass, question.rdtype)]
    forged.answer.append(dns.rrset.from_text_list(name, 300, "IN", "A", list(addresses)))
    return forged.to_wire()


def _soa(question: Question, ttl: int) -> dns.rrset.RRset:
    zone = dns.name.Name(question.message.question[0].name.labels[-2:])
    below = "" if zone == dns.name.root else zone
    return dns.rrset.from_text(
        zone, ttl, "IN", "SOA", f"ns.{below} hostmaster.{below} 1 7200 1800 86400 {ttl}"
    )


class MockUpstream:
    """What the script's thread and the test share. `questions` only grows."""

    def __init__(self, script: Script, udp: socket.socket, tcp: socket.socket, lenient: bool = False) -> None:
        self.script = script
        self.lenient = lenient
        self.questions: list[Question] = []
        self.errors: list[BaseException] = []
        self.server: tuple[str, int] = udp.getsockname()[:2]
        self._udp = udp
        self._tcp = tcp
        self._seen: dict[tuple[dns.name.Name, int], int] = {}

    def asked(self, name: str) -> list[Question]:
        return [question for question in self.questions if question.name == name.lower()]

    def take(self, wire: bytes, peer: tuple[str, int], tcp: bool) -> Sequence[Reply]:
        """Note a question and ask the script. An error in either fails the test when the block ends."""
        try:
            message = dns.message.from_wire(wire, continue_on_error=self.lenient)
            if not message.question and self.lenient:
                return [Reply(wire[:2] + b"\x80\x01" + bytes(8))]
            key = (message.question[0].name, message.question[0].rdtype)
            self._seen[key] = self._seen.get(key, 0) + 1
            question = Question(self._seen[key], message, peer, tcp, time.monotonic())
            self.questions.append(question)
            return self.script(question)
        except Exception as error:
            self.errors.append(error)
            return []

    def send(self, wire: bytes, peer: tuple[str, int]) -> None:
        """A datagram from this upstream's address, asked for or not."""
        self._udp.sendto(wire, peer)

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        listener = await asyncio.start_server(self._serve_tcp, sock=self._tcp)
        loop.add_reader(self._udp, self._receive_udp, loop)
        try:
            await stop.wait()
        finally:
            loop.remove_reader(self._udp)
            listener.close()

    def _receive_udp(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                wire, peer = self._udp.recvfrom(65535)
                for reply in self.take(wire, peer[:2], False):
                    if reply.delay_s:
                        loop.call_later(reply.delay_s, self.send, reply.wire, peer)
                    else:
                        self.send(reply.wire, peer)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks: set[asyncio.Task[None]] = set()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                wire = await reader.readexactly(length)
                for reply in self.take(wire, writer.get_extra_info("peername")[:2], True):
                    task = asyncio.create_task(_send_tcp(writer, reply))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        for task in list(tasks):
            task.cancel()
        writer.close()


async def _send_tcp(writer: asyncio.StreamWriter, reply: Reply) -> None:
    await asyncio.sleep(reply.delay_s)
    if reply.reset:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.write(struct.pack("!H", len(reply.wire)) + reply.wire)


@contextlib.contextmanager
def mock_upstream(
    script: Script, address: str = "127.0.0.1", port: int = 0, lenient: bool = False
) -> Iterator[MockUpstream]:
    """Serve `script` until the end of the block; an error inside the script is raised there.

    `lenient`: mistakes in a question's other sections are passed over, and one that can't be read at all gets
    FORMERR.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp, tcp = _bind(family, address, port)
    upstream = MockUpstream(script, udp, tcp, lenient)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(upstream.run(stop),), name="mock upstream"
    )
    thread.start()
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        udp.close()
        tcp.close()
    if upstream.errors:
        raise upstream.errors[0]


def _bind(family: int, address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket on one port; with port 0 one that is free for both."""
    while True:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            udp.bind((address, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((address, udp.getsockname()[1]))
            tcp.listen(128)
        except OSError:
            udp.close()
            tcp.close()
            if port:
                raise
            continue
        udp.setblocking(False)
        tcp.setblocking(False)
        return udp, tcp
