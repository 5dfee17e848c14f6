# SPDX-License-Identifier: Apache-2.0
"""IPv4 and IPv6 datagrams made by hand, for sources that no socket may have. Needs root."""

import ipaddress
import socket
import struct

UDP_HEADER_LEN = 8


def send_udp(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> None:
    """Send one IPv4 datagram that says it comes from `source`."""
    (from_address, from_port), (to_address, to_port) = source, destination
    addresses = ipaddress.IPv4Address(from_address).packed + ipaddress.IPv4Address(to_address).packed
    length = UDP_HEADER_LEN + len(payload)
    header = struct.pack("!HHHH", from_port, to_port, length, 0)
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_UDP, length)
    checksum = internet_checksum(pseudo + header + payload) or 0xFFFF  # 0 would say: none (RFC 768)
    udp = struct.pack("!HHHH", from_port, to_port, length, checksum) + payload
    # The kernel fills in the IPv4 header's length and checksum.
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(ip + udp, (to_address, 0))


def internet_checksum(octets: bytes) -> int:
    """The ones' complement sum of RFC 1071."""
    octets += b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
