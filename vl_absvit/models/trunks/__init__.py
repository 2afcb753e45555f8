"""Trunks, on which the four steps run. ``base.py`` is their interface, ``registry.py`` lists them."""
