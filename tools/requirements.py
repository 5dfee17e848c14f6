# SPDX-License-Identifier: Apache-2.0
"""Print requirements from pyproject.toml, one a line: `build`, `run`, or the name of an extra."""

import sys
import tomllib
from pathlib import Path

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(group: str) -> list[str]:
    """The requirements of one group; KeyError for a name that is none."""
    with _PYPROJECT.open("rb") as file:
        document = tomllib.load(file)
    if group == "build":
        found: list[str] = document["build-system"]["requires"]
    elif group == "run":
        found = document["project"]["dependencies"]
    else:
        found = document["project"]["optional-dependencies"][group]
    return found


if __name__ == "__main__":
    for group in sys.argv[1:]:
        print("\n".join(requirements(group)))
