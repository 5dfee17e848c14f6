# SPDX-License-Identifier: Apache-2.0
"""Thin ``def`` wrappers over the compiled modules' C functions, for tests; not put in wheels."""
