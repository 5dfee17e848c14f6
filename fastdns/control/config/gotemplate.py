# SPDX-License-Identifier: Apache-2.0
"""Whether a word can be a Go template: the one place where `template` is checked."""

import re
from typing import Final

_PART: Final = re.compile(r"\{\{|\}\}")


def check(text: str) -> None:
    """Raises ValueError where ``text`` is no template."""
    depth = 0
    for part in _PART.findall(text):
        depth += 1 if part == "{{" else -1
        if depth not in (0, 1):
            break
    if depth != 0:
        raise ValueError("{{ and }} don't pair up")
