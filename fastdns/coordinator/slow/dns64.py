# SPDX-License-Identifier: Apache-2.0
"""`dns64`: AAAA records made of A records, for clients that have only IPv6 (RFC 6147)."""

import ipaddress
from dataclasses import replace
from typing import Any, Final

import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.IN.A
import dns.rrset

from fastdns.coordinator.slow.steps import Ask, Done, Go, Outcome, Question

TTL_WITHOUT_SOA: Final = 600  #: s; RFC 6147 s5.1.7
_A, _AAAA, _SOA = dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.SOA
_INET: Final = 4  #: Question.family
_SKIPPED_OCTET: Final = 8  #: bits 64 to 71 are zero; RFC 6052 s2.2


class Dns64:
    """The step. It is for IPv6 clients, unless allow_ipv4 says otherwise."""

    def __init__(self, prefix: str, translate_all: bool = False, allow_ipv4: bool = False) -> None:
        network = ipaddress.IPv6Network(prefix)
        self._prefix = network.network_address.packed
        self._octets = network.prefixlen // 8
        self._translate_all = translate_all
        self._allow_ipv4 = allow_ipv4

    def ask(self, question: Question) -> Outcome:
        wanted = question.rdtype == _AAAA and question.rdclass == dns.rdataclass.IN
        return Go(question, back=wanted and (self._allow_ipv4 or question.family != _INET))

    def answer(self, question: Question, state: Any, message: dns.message.Message) -> Outcome:
        if state is not None:
            return Done(self._synthesize(question, state, message), translated=True)
        if message.rcode() == dns.rcode.NXDOMAIN or (not self._translate_all and _has_aaaa(message)):
            return Done(message)
        ttl = min((rrset.ttl for rrset in message.authority if rrset.rdtype == _SOA), default=TTL_WITHOUT_SOA)
        return Ask(replace(question, rdtype=_A), state=ttl)

    def address(self, a: str) -> str:
        """The IPv6 address that stands for an IPv4 address; RFC 6052 s2.2."""
        octets = bytearray(self._prefix[: self._octets])
        for octet in ipaddress.IPv4Address(a).packed:
            if len(octets) == _SKIPPED_OCTET:
                octets.append(0)
            octets.append(octet)
        return str(ipaddress.IPv6Address(bytes(octets).ljust(16, b"\0")))

    def _synthesize(
        self, question: Question, soa_ttl: int, message: dns.message.Message
    ) -> dns.message.Message:
        answer: list[dns.rrset.RRset] = []
        for rrset in message.answer:
            if rrset.rdtype != _A:
                answer.append(rrset)  # RFC 6147 s5.3.3: all others unchanged
                continue
            made = dns.rrset.RRset(rrset.name, rrset.rdclass, _AAAA)
            for rdata in rrset:
                text = self.address(rdata.to_text())
                made.add(dns.rdata.from_text(rrset.rdclass, _AAAA, text), min(rrset.ttl, soa_ttl))
            answer.append(made)
        message.answer = answer
        message.question = [dns.rrset.RRset(question.name, dns.rdataclass.IN, _AAAA)]
        return message


def _has_aaaa(message: dns.message.Message) -> bool:
    return any(rrset.rdtype == _AAAA for rrset in message.answer)
