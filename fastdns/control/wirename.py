# SPDX-License-Identifier: Apache-2.0
"""Names of the configuration as they go on the wire. dnspython would take 4 MiB of every process."""

import re
from typing import Final

from fastdns.proto import LABEL_MAX, NAME_MAX

#: One octet of a label, escaped or not (RFC 1035 section 5.1), or the dot between two.
_PART: Final = re.compile(r"\\([0-9]{3})|\\(.)|([^\\])", re.DOTALL)


def wire_labels(name: str) -> list[bytes]:
    """The labels of a name, the root's not among them. Raises ValueError for what is none."""
    labels = [bytearray()]
    position = 0
    while position < len(name) and name != ".":
        match = _PART.match(name, position)
        if match is None or (match[1] and int(match[1]) > 255):
            raise ValueError(f"{name!r}: a broken escape")
        if match[3] == ".":
            labels.append(bytearray())
        else:
            labels[-1] += bytes([int(match[1])]) if match[1] else (match[2] or match[3]).encode()
        position = match.end()
    if not labels[-1]:
        labels.pop()
    if not all(1 <= len(one) <= LABEL_MAX for one in labels):
        raise ValueError(f"{name!r}: a label of no octets, or of more than {LABEL_MAX}")
    return [bytes(one) for one in labels]


def wire_name(name: str) -> bytes:
    """A name in lower case (RFC 4343: ASCII only) as it goes on the wire. Raises ValueError."""
    wire = b"".join(bytes([len(one)]) + one.lower() for one in wire_labels(name)) + b"\0"
    if len(wire) > NAME_MAX:
        raise ValueError(f"{name!r}: {len(wire)} octets, {NAME_MAX} are allowed")
    return wire
