"""The option that names the file in which a model is kept."""

from pathlib import Path

import click

state_option = click.option(
    "--state",
    required=True,
    envvar="IPVS_MODEL_STATE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the model is kept (or $IPVS_MODEL_STATE).",
)
