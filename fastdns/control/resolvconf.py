# SPDX-License-Identifier: Apache-2.0
"""The nameservers of /etc/resolv.conf, for a server that was told no upstream."""

from pathlib import Path

from fastdns.control.addresses import Endpoint, parse_endpoint
from fastdns.errors import UsageError

RESOLV_CONF = Path("/etc/resolv.conf")


def nameservers(file: Path = RESOLV_CONF) -> list[Endpoint]:
    """The nameservers, in order; lines that no resolver understands are passed over, as libc does.

    Raises UsageError if the file can't be read.
    """
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; expected nameservers, or --upstream ADDR") from None
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                # One address and no port: a colon in it can only be IPv6's.
                endpoint = parse_endpoint(words[1] if ":" not in words[1] else f"[{words[1]}]")
            except UsageError:
                continue
            if endpoint not in found:
                found.append(endpoint)
    return found
