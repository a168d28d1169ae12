"""Long runs against the model: malformed packets, mutated sync datagrams, random control commands. ``python -m soak NAME``."""
