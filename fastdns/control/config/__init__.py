# SPDX-License-Identifier: Apache-2.0
"""The Corefile: tokens (lexer), blocks (parser), plugins with their options (model), and what to say
about them (explain). ``load`` has the functions that others call.
"""
