# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the control plane. The packet path never raises.

Each message is one line that says what was found and what was expected; the command line
prints it and leaves with ``exit_code``.
"""


class FastDNSError(Exception):
    """Root of all of them."""

    exit_code = 1


class UsageError(FastDNSError):
    """An option, or a set of options, that can't be served."""

    exit_code = 2


class MemoryLimitError(UsageError):
    """What was asked for doesn't fit the memory limit of the cgroup."""


class ListenError(UsageError):
    """An address that can't be bound."""


class CorefileError(UsageError):
    """A Corefile that can't be served.

    ``problems`` has a line for each thing that is wrong: FILE:LINE, what was found, what was expected.
    """

    def __init__(self, *problems: str) -> None:
        more = f" (and {len(problems) - 1} more: see fastdns check)" if problems[1:] else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems


class SegmentError(FastDNSError):
    """A shared-memory segment that is not what its name says, or of another build's layout."""


class NoServerError(FastDNSError):
    """No running fastdns was found."""


class KeeperError(FastDNSError):
    """The keeper refused a request of control, or the connection to it is gone."""


class HopelessError(FastDNSError):
    """Nobody is served, and only our end would lead clients elsewhere."""
