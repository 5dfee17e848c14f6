# SPDX-License-Identifier: Apache-2.0
"""Addresses as people write them, and /etc/resolv.conf."""

import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.control.addresses import Endpoint, parse_endpoint, parse_ip
from fastdns.control.resolvconf import nameservers
from fastdns.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("127.0.0.1", Endpoint("127.0.0.1", 53), "127.0.0.1:53"),
        ("10.0.0.1:5300", Endpoint("10.0.0.1", 5300), "10.0.0.1:5300"),
        ("0.0.0.0:65535", Endpoint("0.0.0.0", 65535), "0.0.0.0:65535"),
        ("::1", Endpoint("::1", 53), "[::1]:53"),
        ("[::1]", Endpoint("::1", 53), "[::1]:53"),
        ("[::1]:5300", Endpoint("::1", 5300), "[::1]:5300"),
        ("2001:DB8:0:0::1", Endpoint("2001:db8::1", 53), "[2001:db8::1]:53"),
        ("[fe80::1%lo]:53", Endpoint("fe80::1", 53, 1), "[fe80::1%1]:53"),
        ("fe80::1%1", Endpoint("fe80::1", 53, 1), "[fe80::1%1]:53"),
    ],
)
def test_addresses_are_understood(text: str, expected: Endpoint, shown: str) -> None:
    assert parse_endpoint(text) == expected
    assert str(expected) == shown


def test_an_address_by_itself() -> None:
    assert [parse_ip(text) for text in ("10.43.0.10", "FD00:0::1")] == ["10.43.0.10", "fd00::1"]
    for text in ("", "10.43.0.10:53", "[::1]", "fe80::1%lo", "010.0.0.1", "1.2.3", "::1\n", "a\0"):
        with pytest.raises(UsageError, match="expected an IP address"):
            parse_ip(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected an IP address"),
        ("localhost", "expected an IP address"),
        ("1.2.3", "expected an IP address"),
        ("1.2.3.4.5", "expected an IP address"),
        ("1.2.3.4:", "port from 1 to 65535, found ''"),
        ("1.2.3.4:0", "port from 1 to 65535, found '0'"),
        ("1.2.3.4:65536", "port from 1 to 65535, found '65536'"),
        ("1.2.3.4:+53", "found '[+]53'"),
        ("1.2.3.4:\uff15\uff13", "port from 1 to 65535"),
        ("[1.2.3.4]:53", "IPv6 address between the brackets"),
        ("[::1", "expected an IP address"),
        ("[::1]53", "expected an IP address"),
        ("[::1]:", "found ''"),
        ("::ffff:10.0.0.1", r"the IPv4 address as such \(10.0.0.1\)"),
        ("fe80::1", "link-local address with its interface"),
        ("fe80::1%nosuchif0", "no interface 'nosuchif0'"),
        ("::1%lo", "an interface after %"),
        ("127.0.0.1\0", "expected an IP address"),
        ("::1\0", "expected an IP address"),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_endpoint(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except UsageError:
        return
    socket.inet_pton(endpoint.family, endpoint.host)
    assert parse_endpoint(str(endpoint)) == endpoint


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_is_shown_is_understood_again(address: IPv4Address | IPv6Address, port: int) -> None:
    text = str(address)
    if isinstance(address, IPv6Address) and (address.is_link_local or address.ipv4_mapped):
        return  # refused, see above
    endpoint = parse_endpoint(f"[{text}]:{port}" if ":" in text else f"{text}:{port}")
    assert parse_endpoint(str(endpoint)) == endpoint
    assert endpoint.port == port


def test_nameservers_as_libc_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# a comment\nsearch svc.cluster.local\nnameserver 10.43.0.10\nnameserver 10.43.0.10\n"
        "nameserver\nnameserver fe80::1%lo\nnameserver localhost\n nameserver ::1\noptions ndots:5\n"
    )
    assert nameservers(file) == [Endpoint("10.43.0.10", 53), Endpoint("fe80::1", 53, 1), Endpoint("::1", 53)]


def test_no_resolv_conf_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        nameservers(tmp_path / "none")
