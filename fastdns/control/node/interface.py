# SPDX-License-Identifier: Apache-2.0
"""The interface that holds our addresses, and what is on the node already. Runs in a short-lived child.

A dummy, as node-cache's, where the kernel has one; else whatever link it can make that carries nothing. It is
never set up: an address is local as soon as it is on any interface, and a link that is down sends nothing
about it, no ARP, no neighbour discovery.

The addresses themselves are the keeper's, which puts them there with a lifetime and renews them.
"""

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastdns.control.node.model import ErrorType, Held, Link, NodeError

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

# In the order of preference. A bridge without ports and an ifb that nobody redirects to carry nothing; of a
# veth pair we use one end, and the other keeps it company.
KINDS = ("dummy", "bridge", "ifb", "veth")
_UNKNOWN_KIND = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_IFA_F_PERMANENT = 0x80


def ensure_link(name: str) -> Link:
    """The interface of that name, made where there is none. Raises NodeError.

    One that is there is used, of whatever type, as node-cache does.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    with _route(ErrorType.INTERFACE_ADD) as route:
        if found := route.link_lookup(ifname=name):
            return Link(found[0], name, "", False)
        for kind in KINDS:
            try:
                extra = {"peer": {"ifname": f"{name[:11]}-p"}} if kind == "veth" else {}
                route.link("add", ifname=name, kind=kind, **extra)
            except NetlinkError as error:
                if error.code in _UNKNOWN_KIND:
                    continue  # this kernel has no such links
                if error.code != errno.EEXIST:
                    raise
            if found := route.link_lookup(ifname=name):
                return Link(found[0], name, kind, True)
        raise NodeError(ErrorType.INTERFACE_ADD, f"this kernel makes no link of the kinds {', '.join(KINDS)}")


def remove_link(name: str) -> bool:
    """Remove the interface; whether there was one. Raises NodeError."""
    with _route(ErrorType.INTERFACE_ADD) as route:
        found = route.link_lookup(ifname=name)
        if not found or found[0] == 1:  # never the loopback, whatever -interfacename said
            return False
        route.link("del", index=found[0])
        return True


def held(addresses: tuple[str, ...]) -> list[Held]:
    """Which of these addresses are on the node, and how. Raises NodeError."""
    with _route(ErrorType.INTERFACE_CHECK) as route:
        names = {one["index"]: one.get("ifname") or str(one["index"]) for one in route.get_links()}
        found = []
        for one in route.get_addr():
            text = one.get("IFA_LOCAL") or one.get("IFA_ADDRESS")
            address = str(ipaddress.ip_address(text))
            if address in addresses:
                permanent = bool((one.get("IFA_FLAGS") or one["flags"]) & _IFA_F_PERMANENT)
                found.append(Held(address, names.get(one["index"], "?"), permanent))
        return found


def addresses_on(name: str) -> list[str]:
    """The global addresses of an interface; none where it isn't there. Raises NodeError."""
    with _route(ErrorType.INTERFACE_CHECK) as route:
        index = next(iter(route.link_lookup(ifname=name)), 0)
        if not index:
            return []
        texts = [one.get("IFA_LOCAL") or one.get("IFA_ADDRESS") for one in route.get_addr(index=index)]
    found = [str(ipaddress.ip_address(one)) for one in texts]
    return [one for one in found if not one.startswith("fe80:")]


@contextlib.contextmanager
def _route(kind: ErrorType) -> "Iterator[IPRoute]":
    # Imported here: only the short-lived child is to have it in memory.
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            yield route
    except NetlinkError as error:
        raise NodeError(kind, os.strerror(error.code)) from None
    except OSError as error:
        raise NodeError(kind, error.strerror or str(error)) from None
