# SPDX-License-Identifier: Apache-2.0
"""``python -m fastdns``."""

import sys

from fastdns.cli import main

sys.exit(main())
