# SPDX-License-Identifier: Apache-2.0
"""What a row of the differential suite is: a Corefile, and the queries that both servers get in order.

Corefiles use these environment variables, so that the text is the same for both servers:

    {$LISTEN}, {$LISTEN6}     the addresses that are asked
    {$UP}, {$UP2}             scripted upstreams, records.RECORDS and RECORDS_2
    {$UP6}                    the first one, by IPv6
    {$DEAD}                   nobody listens there
    {$METRICS}, {$HEALTH}     address and port for these
    {$DIR}                    the folder that holds the case's files
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ask:
    """A query. `look` says what is looked at.

    `says` is what both servers' replies are held to beside being equal, in the words of expect.py. Where
    fastdns is to differ, `differs` names the line in docs/differences.md, `says` is node-cache's reply and
    `ours` fastdns's.
    """

    look: str
    name: str
    rdtype: str = "A"
    says: str = ""
    ours: str = ""
    differs: str = ""
    wait: float = 0.0  #: s after the query before
    tcp: bool = False
    v6: bool = False
    edns: int | None = None  #: UDP size of the OPT
    do: bool = False
    options: tuple[tuple[int, bytes], ...] = ()
    version: int = 0
    ad: bool = False
    cd: bool = False
    rd: bool = True
    qclass: str = "IN"
    opcode: str = "QUERY"
    wire: bytes | None = None  #: the whole query; the first two octets are its ID
    any_order: bool = False  #: the order of records is not compared
    repeat: int = 1  #: ask so often, and compare the last reply and the set of addresses that came first
    hold: float = 0.0  #: s between the connection and the query, over TCP
    idle: float = 0.0  #: s between a first query, whose reply isn't compared, and this on its connection
    unsteady: bool = False  #: neither what was asked upstream nor the last of several answers is compared


@dataclass(frozen=True)
class Case:
    """A Corefile, started anew, and its queries."""

    name: str
    corefile: str
    asks: tuple[Ask, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    default: bool = False  #: a part of the default suite, too
    metrics: bool = False  #: /metrics at {$METRICS} is compared as well
    same_counts: bool = False  #: and the counts of queries in it
    http: tuple[tuple[str, str, str], ...] = ()  #: (variable, method, path) that are asked for
    log: bool = False  #: what the log plugin wrote is compared as well
