"""The training loop, its optimizer, its checkpoints and its run folder; nothing here knows a task's content."""
