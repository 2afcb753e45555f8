"""What a training run needs, before it starts: memory and operations are counted, time follows from measured rates."""
