# SPDX-License-Identifier: Apache-2.0
"""Benches of whole processes: run.py is the command, floor.c and upstream.c are what it measures by."""
