"""`ipvs-model`: the command line. Each command is a module in `tools/commands` with a click command called `command`, imported when it is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import click

MISSING: Final = "{} is not installed; the command line needs: pip install 'ipvs_model[cli]'"


def group() -> click.Group:
    """The command with all its subcommands. Raises ModuleNotFoundError without the extra `cli`."""
    import click

    from ipvs_model.tools import commands

    class Commands(click.Group):
        def list_commands(self, context: click.Context) -> list[str]:
            return sorted(module.name for module in iter_modules(commands.__path__) if not module.name.startswith("_"))

        def get_command(self, context: click.Context, name: str) -> click.Command | None:
            if name not in self.list_commands(context):
                return None
            try:
                found = import_module(f"{commands.__name__}.{name}").command
            except ModuleNotFoundError as absent:
                if (absent.name or "").startswith("ipvs_model"):
                    raise
                raise click.ClickException(MISSING.format(absent.name)) from absent
            assert isinstance(found, click.Command)
            return found

    @click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(package_name="ipvs_model")
    def ipvs_model() -> None:
        """Linux IPVS (ip_vs of Linux 6.12) as a model: no kernel, no root, a virtual clock."""

    return ipvs_model


def main() -> None:
    """Entry point of the script; without the extra `cli` it says what to install."""
    try:
        commands = group()
    except ModuleNotFoundError as absent:
        if (absent.name or "").startswith("ipvs_model"):
            raise
        sys.exit("ipvs-model: " + MISSING.format(absent.name))
    commands(prog_name="ipvs-model")


if __name__ == "__main__":
    main()
