# SPDX-License-Identifier: Apache-2.0
"""The fuzzers' corpus without a fuzzer: every input is judged as dnspython judges it, or more strictly."""

from pathlib import Path

import dns.exception
import dns.message
import pytest

from fastdns._testing import wire
from tests.wiretools import octets_of

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
QUERIES = sorted((CORPUS / "query").iterdir())
RESPONSES = sorted((CORPUS / "response").iterdir())
PARAMETERS = 8  # octets before the message in an input of the response fuzzer


def test_it_is_there() -> None:
    assert len(QUERIES) > 30
    assert len(RESPONSES) > 60


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.name[:8])
def test_query(path: Path) -> None:
    packet = path.read_bytes()
    query = wire.parse(packet)
    if query.rc == 0:
        message = dns.message.from_wire(packet, keyring=False, continue_on_error=True)
        assert octets_of(message.question[0].name).lower() == query.qname
    elif query.rc > 0:
        reply = dns.message.from_wire(wire.error(packet, query.rc))
        assert reply.rcode() == query.rc


@pytest.mark.parametrize("path", RESPONSES, ids=lambda path: path.name[:8])
def test_response(path: Path) -> None:
    message = path.read_bytes()[PARAMETERS:]
    response = wire.parse_answer(message)
    if response.rc != 0:
        return
    records, offsets = wire.compress(message)
    assert len(offsets) == len(response.ttl_off)
    again = wire.parse_answer(
        message[:10] + response.arcount.to_bytes(2, "big") + message[12 : response.records_off] + records
    )
    assert again.rc == 0
    assert again.plain_len == response.plain_len
