"""Metrics as pure functions, and the files of their results."""
