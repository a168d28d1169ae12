"""`ipvs-model packet`: packets for the model in a file."""

from pathlib import Path

import click

from ipvs_model.tools.commands._state import state_option
from ipvs_model.tools.journal import Journal, JournalError
from ipvs_model.tools.packet_text import PacketTextError, describe


@click.command()
@state_option
@click.argument("packets", nargs=-1, required=True, metavar="PACKET...")
def command(state: Path, packets: tuple[str, ...]) -> None:
    """Let packets reach the director in FILE: each is one argument, "tcp 203.0.113.7:40000 > 192.0.2.1:80 S" or hexadecimal digits.

    Prints what became of each, and what left.
    """
    try:
        with Journal.open(state) as journal:
            for text in packets:
                outcome = journal.packet(text)
                click.echo("; ".join([str(outcome.reason), *map(describe, outcome.emitted)]))
    except (JournalError, PacketTextError, OSError) as wrong:
        raise click.ClickException(str(wrong)) from wrong
