"""The demo world: a small drawn world in the official formats of the real data sets."""
