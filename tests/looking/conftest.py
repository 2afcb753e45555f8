"""The tiny world for the tests of this folder."""

from tests.tiny_vqa import world  # noqa: F401
