# SPDX-License-Identifier: Apache-2.0
"""From node-cache's template to the text of a Corefile (corefile.md 6.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fastdns.control.addresses import parse_ip
from fastdns.control.config.kubedns import KubeDNS
from fastdns.errors import UsageError

UPSTREAM_SERVERS: Final = "__PILLAR__UPSTREAM__SERVERS__"
CLUSTER_DNS: Final = "__PILLAR__CLUSTER__DNS__"
LOCAL_DNS: Final = "__PILLAR__LOCAL__DNS__"
DNS_SERVER: Final = "__PILLAR__DNS__SERVER__"

DEFAULT_UPSTREAM: Final = "/etc/resolv.conf"

# To the blank, what node-cache knows as a block that asks upstream over TCP; another indentation stays.
_OVER_TCP: Final = f"\n    forward . {UPSTREAM_SERVERS} {{\n            force_tcp\n    }}\n"
_OVER_UDP: Final = f"\n    forward . {UPSTREAM_SERVERS}\n"


class TemplateError(UsageError):
    """A template that can't be filled in here."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the template gets from flags and environment; it stays for the life of the process."""

    local_ips: tuple[str, ...]
    dns_port: int
    service: str
    service_ip: str | None  #: None: the environment doesn't say it

    @property
    def bind(self) -> str:
        return " ".join(self.local_ips)


def service_variable(service: str) -> str:
    """The environment variable in which Kubernetes tells a service's cluster address."""
    return service.replace("-", "_").upper() + "_SERVICE_HOST"


def find_service(service: str, environ: Mapping[str, str]) -> str | None:
    """The service's address, as text; None where there is none."""
    try:
        return parse_ip(environ.get(service_variable(service), ""))
    except UsageError:
        return None


def fill(template: str, kubedns: KubeDNS, place: Place) -> str:
    """The Corefile: placeholders replaced, stub domains' blocks after it. Raises TemplateError."""
    text = _set_upstreams(template, kubedns.upstreams)
    if CLUSTER_DNS in text:
        if place.service_ip is None:
            raise TemplateError(
                f"the template has {CLUSTER_DNS}, and the environment no {service_variable(place.service)}:"
                f" expected a service {place.service!r} with a cluster address in this namespace"
            )
        text = text.replace(CLUSTER_DNS, place.service_ip)
    text = text.replace(LOCAL_DNS, place.bind).replace(DNS_SERVER, "")
    return text + "".join(_stub_block(domain, servers, place) for domain, servers in kubedns.stub_domains)


def keeps_transport(template: str) -> bool:
    """Whether some servers are asked as before when the ConfigMap names others: node-cache warns of that."""
    return UPSTREAM_SERVERS in template.replace(_OVER_TCP, "")


def _set_upstreams(text: str, servers: tuple[str, ...]) -> str:
    if not servers:
        return text.replace(UPSTREAM_SERVERS, DEFAULT_UPSTREAM)
    joined = " ".join(servers)
    return text.replace(_OVER_TCP, _OVER_UDP).replace(UPSTREAM_SERVERS, joined)


def _stub_block(domain: str, servers: tuple[str, ...], place: Place) -> str:
    return f"""
{domain}:{place.dns_port} {{
    errors
    cache 30
    bind {place.bind}
    forward . {" ".join(servers)}
}}
"""
