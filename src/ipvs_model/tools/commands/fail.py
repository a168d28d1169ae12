"""`ipvs-model fail`: let an ipvsadm command to come fail."""

import errno
from pathlib import Path

import click

from ipvs_model.tools.commands._state import state_option
from ipvs_model.tools.journal import Journal, JournalError


def _code(context: click.Context, argument: click.Parameter, value: str) -> int:
    code = getattr(errno, value, None)
    if not isinstance(code, int):
        raise click.BadParameter(f"{value!r} is no errno: write ENOMEM, EEXIST, ESRCH ...", context, argument)
    return code


@click.command()
@state_option
@click.argument("code", metavar="ERRNO", callback=_code)
@click.option("--nth", default=1, show_default=True, type=click.IntRange(min=1), help="Which of the runs of ipvsadm to come, listings not counted.")
def command(state: Path, code: int, nth: int) -> None:
    """Let an ipvsadm command to come fail with ERRNO (ENOMEM, EEXIST ...) on the model in FILE: its message, its exit status, and nothing changed."""
    try:
        with Journal.open(state) as journal:
            journal.fail(code, nth)
    except (JournalError, OSError) as wrong:
        raise click.ClickException(str(wrong)) from wrong
