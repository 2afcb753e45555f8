"""Tasks: what a batch is, what the losses are, how a model is evaluated."""
