"""Plans of training runs: memory and operations are counted, time follows from measured rates."""
