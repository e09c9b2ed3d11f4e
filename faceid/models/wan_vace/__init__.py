"""All that only Wan2.1-VACE has among bases: its class, names and config, its control tensor, its hint blocks.

All other code asks here. tests/test_house.py checks that nobody else writes these names. Code that any DiT with
cross-attention shares is in models/base. docs/extending.md says what the folder of another base has to provide.
"""
