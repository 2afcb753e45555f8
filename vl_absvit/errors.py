"""What a user can cause.

Scripts turn these into one line on stderr; anything else is a fault of ours and keeps its traceback.
"""


class InputError(ValueError):
    """Data, files or checkpoints are not as expected: the message says where, what was expected and what came."""


class ConfigError(InputError):
    """The run's configuration contradicts itself or names something that does not exist."""
