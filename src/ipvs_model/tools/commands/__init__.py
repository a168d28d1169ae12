"""The commands of `ipvs-model`: one module each, with a click command called `command`."""
