# SPDX-License-Identifier: Apache-2.0
"""What ``fastdns demo`` brings along: a small authoritative server, its zones, and a look at processes."""
