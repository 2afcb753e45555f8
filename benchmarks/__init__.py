"""What the model costs, beside a naive transcription of the same formulas."""
