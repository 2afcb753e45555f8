"""How properties are tried: always with the same examples, so that they fail for everybody or for nobody."""

from hypothesis import settings

steady = settings(derandomize=True, database=None, deadline=None, max_examples=60)
