# SPDX-License-Identifier: Apache-2.0
"""The words of `bind` as addresses of this machine."""

from fastdns.control.addresses import parse_endpoint
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, shown
from fastdns.control.config.plugins import BindAddress
from fastdns.control.config.reader import Given, Reader
from fastdns.errors import UsageError


def bind(given: Given) -> None:
    """The words as addresses, interfaces as what they have now."""
    excepted = {
        address for word in given.option_words("except") for address in _addresses_of(word, given.reader)
    }
    found = [address for word in given.directive.words for address in _addresses_of(word, given.reader)]
    given.values["addresses"] = tuple(address for address in found if address not in excepted)
    if found and not given.values["addresses"]:
        given.reader.problem(
            given.directive.name, "found no address left after 'except', expected at least one"
        )


def _addresses_of(word: Token, reader: Reader) -> list[BindAddress]:
    text = word.text
    try:
        endpoint = parse_endpoint(f"[{text}]" if ":" in text else text)
        return [BindAddress(endpoint.host, endpoint.scope_id)]
    except UsageError as error:
        interfaces = _interfaces()
        if text in interfaces:
            if not interfaces[text]:
                reader.problem(
                    word, f"found interface {text!r} without an address, expected one that has some"
                )
            return interfaces[text]
        looks = text.replace(".", "").isdigit() or ":" in text
        reason = f" ({error})" if looks else nearest(text, interfaces)
        reader.problem(
            word, f"found {shown(text)}, expected an IP address or an interface of this machine{reason}"
        )
        return []


def _interfaces() -> dict[str, list[BindAddress]]:
    """The addresses of each interface of this machine."""
    import ifaddr  # ctypes, which only a file that names an interface pays for

    found: dict[str, list[BindAddress]] = {}
    for adapter in ifaddr.get_adapters(include_unconfigured=True):
        rows = found.setdefault(adapter.name, [])
        for address in adapter.ips:
            if isinstance(address.ip, str):
                rows.append(BindAddress(address.ip))
            else:
                host, _, scope_id = address.ip
                rows.append(BindAddress(host.partition("%")[0], scope_id))
    return found
