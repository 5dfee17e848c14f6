# SPDX-License-Identifier: Apache-2.0
"""Host names among upstreams: whom is asked for their addresses, and what is made of the answers."""

import contextlib
from collections.abc import Iterator, Sequence

import dns.message
import dns.rcode
import dns.rrset
import pytest

from fastdns.control.addresses import Endpoint
from fastdns.control.config.hostnames import with_addresses
from fastdns.control.config.load import parse_corefile
from fastdns.errors import CorefileError
from tests.mock_upstream import MockUpstream, Question, Reply, mock_upstream, truncated

RECORDS = {
    ("one.example", "A"): ["one.example. 60 IN A 192.0.2.1"],
    ("two.example", "A"): [
        "two.example. 60 IN CNAME other.example.",
        "other.example. 60 IN A 192.0.2.2",
        "other.example. 60 IN A 192.0.2.3",
    ],
    ("two.example", "AAAA"): ["two.example. 60 IN AAAA 2001:db8::2"],
    ("six.example", "AAAA"): ["six.example. 60 IN AAAA 2001:db8::6"],
}


def known(question: Question) -> Sequence[Reply]:
    """What stands above; of two.example nothing over UDP; the rest does not exist."""
    if question.name == "two.example" and not question.tcp:
        return [Reply(truncated(question))]
    response = dns.message.make_response(question.message)
    for text in RECORDS.get((question.name, question.rdtype.name), []):
        owner, ttl, rdclass, rdtype, data = text.split(" ")
        response.answer.append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, data))
    return [Reply(response.to_wire())]


def nothing(question: Question) -> Sequence[Reply]:
    """A resolver that has no answer for anybody."""
    response = dns.message.make_response(question.message)
    response.set_rcode(dns.rcode.SERVFAIL)
    return [Reply(response.to_wire())]


@pytest.fixture
def resolver() -> Iterator[MockUpstream]:
    with mock_upstream(known) as it:
        yield it


def text_of(server: MockUpstream) -> str:
    return f"{server.server[0]}:{server.server[1]}"


def found(to: str, *resolvers: MockUpstream, options: str = "") -> list[list[Endpoint]]:
    """The endpoints that each word of a `forward` stands for."""
    lines = f"resolver {' '.join(map(text_of, resolvers))}\n{options}"
    corefile = with_addresses(parse_corefile(f". {{\nforward . {to} {{\n{lines}\n}}\n}}\n", "f"))
    return [list(one.endpoints) for one in corefile.blocks[0].forward[0].to]


def test_addresses_of_both_families_with_the_word_s_port(resolver: MockUpstream) -> None:
    """Also behind an alias, and where they come over TCP only."""
    assert found("one.example 10.0.0.1 two.example:5353 tls://one.example", resolver) == [
        [Endpoint("192.0.2.1", 53)],
        [Endpoint("10.0.0.1", 53)],
        [Endpoint("192.0.2.2", 5353), Endpoint("192.0.2.3", 5353), Endpoint("2001:db8::2", 5353)],
        [Endpoint("192.0.2.1", 853)],
    ]


def test_only_what_the_source_address_reaches(resolver: MockUpstream) -> None:
    assert found("two.example", resolver, options="source_address ::1") == [[Endpoint("2001:db8::2", 53)]]


def test_the_next_resolver_is_asked_where_one_has_nothing(resolver: MockUpstream) -> None:
    with mock_upstream(nothing) as failing:
        assert found("six.example", failing, resolver) == [[Endpoint("2001:db8::6", 53)]]
        assert failing.asked("six.example")


def test_no_address_is_no_configuration(resolver: MockUpstream) -> None:
    with pytest.raises(CorefileError) as caught:
        found("none.example", resolver)
    assert caught.value.problems == (
        f"f:2: plugin forward: found no address of 'none.example' ({text_of(resolver)}: it has none)",
    )


def test_a_silent_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdns.control.config.hostnames._WAIT_S", 0.1)
    with mock_upstream(lambda _: []) as silent, contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(CorefileError))
        found("one.example", silent)
    assert f"{text_of(silent)}: The DNS operation timed out" in str(caught.value)


def test_nobody_is_asked_for_https(resolver: MockUpstream) -> None:
    """Such an upstream is not asked, whatever its address."""
    scheme = "https"
    assert found(f"{scheme}://one.example/dns-query 10.0.0.1", resolver)[0] == []
    assert not resolver.asked("one.example")
