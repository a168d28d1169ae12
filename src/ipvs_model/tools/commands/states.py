"""`ipvs-model states`: a protocol's state machine as table, Mermaid or SVG."""

from typing import Final

import click

from ipvs_model.tools.states import DIRECTIONS, as_mermaid, as_svg, as_text, machine

FORMATS: Final = {"table": as_text, "mermaid": as_mermaid, "svg": as_svg}


@click.command()
@click.argument("protocol", type=click.Choice(["tcp", "udp", "sctp"]))
@click.option("--secure", is_flag=True, help="TCP's table while secure_tcp is in force.")
@click.option("--mermaid", "form", flag_value="mermaid", help="A Mermaid state diagram.")
@click.option("--svg", "form", flag_value="svg", help="A picture.")
@click.option(
    "--direction",
    "directions",
    multiple=True,
    type=click.Choice(list(DIRECTIONS), case_sensitive=False),
    help="Only this direction; repeatable (default: all; --svg: the first two). INPUT_ONLY is used while no packet of the server was seen.",
)
def command(protocol: str, secure: bool, form: str | None, directions: tuple[str, ...]) -> None:
    """Print the state machine of PROTOCOL as the model runs it: states, timeouts, transitions."""
    if secure and protocol != "tcp":
        raise click.UsageError("--secure is about TCP")
    shown = directions or tuple(DIRECTIONS)[: 2 if form == "svg" else None]  # all three at once make a picture nobody can follow
    click.echo(FORMATS[form or "table"](machine(protocol, secure=secure), shown), nl=False)
