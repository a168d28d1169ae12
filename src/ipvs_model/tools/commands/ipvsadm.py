"""`ipvs-model ipvsadm`: the model's ipvsadm, for tools that shell out."""

import sys
from pathlib import Path

import click

from ipvs_model.tools.commands._state import state_option
from ipvs_model.tools.journal import Journal, JournalError


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]},
    options_metavar="--state FILE",
)
@state_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="IPVSADM-ARGUMENTS...")
def command(state: Path, arguments: tuple[str, ...]) -> None:
    """Run ipvsadm on the model in FILE: same arguments, output, messages and exit status as ipvsadm 1.31. `ipvsadm --state FILE -h` shows its own help.

    FILE is a journal: everything that was done is done again, so the model is exactly as it was left. Its clock stands still until `clock advance`.
    """
    restores = any(argument in ("-R", "--restore") for argument in arguments)
    try:
        with Journal.open(state) as journal:
            result = journal.ipvsadm(arguments, sys.stdin.read() if restores else "")
    except (JournalError, OSError) as wrong:
        raise click.ClickException(str(wrong)) from wrong
    click.echo(result.out, nl=False)
    click.echo(result.err, nl=False, err=True)
    sys.exit(result.status)
