# SPDX-License-Identifier: Apache-2.0
"""What a block's chain does in Python: regular expressions, templates, DNS64.

Steps work on dnspython's messages and know nothing of the loop: ``thread`` feeds them from the
queue and gives the loop what came of it.
"""
