# SPDX-License-Identifier: Apache-2.0
"""Host names among the upstreams of a `forward`: their addresses, as its `resolver` says them.

Asked whenever a configuration is made, at a start and at each reload, and not by `fastdns check`. As CoreDNS
does: names are absolute, and the first resolver that has an address for one is believed.
"""

from dataclasses import replace
from typing import Final

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from fastdns.control.addresses import Endpoint, parse_port
from fastdns.control.config.forward import To
from fastdns.control.config.messages import shown
from fastdns.control.config.model import Corefile, Forward, ServerBlock
from fastdns.control.config.upstreams import PORTS, of_family
from fastdns.errors import CorefileError

_WAIT_S: Final = 2.0  #: for one answer of a resolver


def with_addresses(corefile: Corefile) -> Corefile:
    """``corefile`` with the addresses of all hosts that it forwards to. Raises CorefileError."""
    return replace(corefile, blocks=tuple(map(_block, corefile.blocks)))


def _block(block: ServerBlock) -> ServerBlock:
    return replace(block, forward=tuple(map(_forward, block.forward)))


def _forward(forward: Forward) -> Forward:
    return replace(forward, to=tuple(_to(to, forward) for to in forward.to))


def _to(to: To, forward: Forward) -> To:
    if not to.host or to.scheme == "https":
        return to
    name, _, port = to.host.partition(":")
    number = parse_port(port) if port else PORTS[to.scheme]
    reasons = []
    for resolver in forward.resolver:
        try:
            found = tuple(Endpoint(address, number) for address in _addresses(name, resolver))
        except (dns.exception.DNSException, OSError) as error:
            reasons.append(f"{resolver}: {error}")
            continue
        endpoints = of_family(found, forward.source_address)
        if endpoints:
            return replace(to, endpoints=endpoints)
        reasons.append(f"{resolver}: it has none")
    why = "; ".join(reasons)
    raise CorefileError(f"{forward.where}: plugin forward: found no address of {shown(name)} ({why})")


def _addresses(name: str, resolver: Endpoint) -> list[str]:
    """Those of both families. Raises DNSException or OSError where nothing is known."""
    found = _ask(name, dns.rdatatype.A, resolver)
    try:
        return found + _ask(name, dns.rdatatype.AAAA, resolver)
    except (dns.exception.DNSException, OSError):
        if not found:
            raise
        return found


def _ask(name: str, rdtype: dns.rdatatype.RdataType, resolver: Endpoint) -> list[str]:
    query = dns.message.make_query(f"{name.rstrip('.')}.", rdtype)
    scope = f"%{resolver.scope_id}" if resolver.scope_id else ""
    response, _ = dns.query.udp_with_fallback(
        query,
        resolver.host + scope,
        _WAIT_S,
        resolver.port,
        ignore_unexpected=True,
        ignore_errors=True,
    )
    return [str(data) for rrset in response.answer if rrset.rdtype == rdtype for data in rrset]
