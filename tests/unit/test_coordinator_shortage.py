# SPDX-License-Identifier: Apache-2.0
"""The coordinator without what it needs of its own kernel."""

import resource

import pytest

from tests.coordtools import EDE_OTHER, Upstream, world


@pytest.mark.parametrize("force_tcp", [False, True])
def test_without_descriptors_nobody_else_is_to_blame(force_tcp: bool) -> None:
    """The question fails, and nothing is remembered, of the name or the upstream (RFC 9520 s3.2)."""
    with Upstream() as up, world(up, force_tcp=force_tcp, question_deadline_ms=300, stale_s=60) as w:
        limits = resource.prlimit(w.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        assert w.ask_failing("www.example.") == EDE_OTHER
        resource.prlimit(w.pid, resource.RLIMIT_NOFILE, limits)
        assert w.ask("www.example.").rcode == 0
        assert w.count("upstream_send_failed") > 1
        assert (len(up.asked), w.count("stores")) == (1, 1)
