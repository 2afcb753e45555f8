"""What is measured: metrics as pure functions, and the files they are handed in with."""
