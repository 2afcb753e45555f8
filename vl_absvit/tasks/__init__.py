"""Tasks: their batches, losses, evaluation and checkpoints."""
