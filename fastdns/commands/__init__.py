# SPDX-License-Identifier: Apache-2.0
"""One subcommand a file."""

from fastdns.later import postpone

postpone("asyncio.sslproto", "inspect", "ipaddress", "locale")  # before anything that imports them
