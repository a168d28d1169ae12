"""`ipvs-model clock`: the virtual clock of a model kept in a file."""

from pathlib import Path

import click

from ipvs_model.tools.commands._state import state_option
from ipvs_model.tools.journal import Journal, JournalError


@click.group()
@state_option
@click.pass_context
def command(context: click.Context, state: Path) -> None:
    """Let time pass in the model in a file, or ask what time it is."""
    try:
        context.obj = context.with_resource(Journal.open(state))
    except (JournalError, OSError) as wrong:
        raise click.ClickException(str(wrong)) from wrong


@command.command()
@click.argument("seconds", type=click.FloatRange(min=0), default=0)
@click.option("--jiffies", type=click.IntRange(min=0), default=0, help="Ticks, instead of seconds or on top of them.")
@click.pass_obj
def advance(journal: Journal, seconds: float, jiffies: int) -> None:
    """Let SECONDS of virtual time pass; timers that fall due fire."""
    fired = journal.advance(jiffies + round(seconds * journal.ipvs.clock.hz))
    click.echo(f"{fired} timers fired")
    _tell(journal)


@command.command()
@click.pass_obj
def show(journal: Journal) -> None:
    """Print jiffies and when the next timer fires."""
    _tell(journal)


def _tell(journal: Journal) -> None:
    clock = journal.ipvs.clock
    due = clock.next_deadline()
    waiting = "no timer pending" if due is None else f"next timer in {due - clock.now} jiffies ({(due - clock.now) / clock.hz:.3f} s)"
    click.echo(f"jiffies {clock.jiffies32} (HZ {clock.hz}), {waiting}")
