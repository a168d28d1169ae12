"""Programs around the model: reading captures, replaying them, checking it against recorded kernels, pictures, the command line (extra: cli)."""
