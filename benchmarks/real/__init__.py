"""Genuine encoders on real photographs: what random weights and drawn worlds do not show.

``bash scripts/real_check.sh DATA`` runs all of it; ``docs/real.md`` says what it measures.
"""
