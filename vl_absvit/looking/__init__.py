"""Where a model looks: maps of its tokens, their places in the original picture, and pages of both."""
