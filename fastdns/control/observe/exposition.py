# SPDX-License-Identifier: Apache-2.0
"""prometheus_client's data model and text format, without its servers and its push client.

Its package imports http.server, ssl, urllib and wsgiref for those: 4.3 MiB, and 32 ms of CPU in every scrape
(which is a process of its own). Nothing of fastdns uses them, so while it is imported empty modules stand in
for them, and 1.2 MiB and 12 ms remain. A version that needs more of them at import is imported whole.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prometheus_client import Metric

_UNUSED = ("http.server", "ssl", "urllib.error", "urllib.parse", "urllib.request", "wsgiref.simple_server")


class _StandIn(ModuleType):
    """A module in which every name is a class without anything."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _StandIn(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _load() -> None:
    try:
        with _without(_UNUSED):
            import prometheus_client
    except Exception:
        for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
            del sys.modules[name]
        import prometheus_client  # noqa: F401


_load()

from prometheus_client import exposition  # noqa: E402  # after _load, on purpose
from prometheus_client.metrics_core import (  # noqa: E402
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

__all__ = ["CounterMetricFamily", "GaugeMetricFamily", "HistogramMetricFamily", "Source", "render"]


class Source(Protocol):
    """What has metrics to show."""

    def collect(self) -> "Iterator[Metric]":
        """All families, each once."""
        ...


def render(source: Source) -> bytes:
    """The exposition in Prometheus's text format: CoreDNS has no other, so scrapers get what they know."""
    return exposition.generate_latest(source)
