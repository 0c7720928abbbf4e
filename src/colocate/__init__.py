"""Colocate: where correctness lives and where rotary position encoding acts, layer by layer.

Import the submodules; this package imports nothing itself, so that parsing the workflow stays cheap.
"""
