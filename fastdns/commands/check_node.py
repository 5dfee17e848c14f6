# SPDX-License-Identifier: Apache-2.0
"""``fastdns check --node``: whether queries reach us on this node, and what happens to them when we die."""

import json as json_module
import sys

from fastdns.control.node import check
from fastdns.control.node.model import NodePlan
from fastdns.control.node.survey import addresses_here, survey

_DEFAULTS = NodePlan(())


def main(*, json: bool) -> int:
    """Examine the node, and print. 0: queries reach every address and find an answer elsewhere; else 1."""
    addresses = addresses_here(_DEFAULTS.interface, _DEFAULTS.port)
    report = check.judge(survey(addresses, _DEFAULTS.port), addresses)
    if json:
        sys.stdout.write(json_module.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(check.lines(report)) + "\n")
    return 0 if check.is_well(report) else 1
