"""Pictures of a folder found by a sentence: an index of first looks, and what is nearest in it."""
