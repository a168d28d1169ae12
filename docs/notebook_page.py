"""A notebook as a page of the book: cells, and under each what it showed."""

import json
from collections.abc import Iterator
from typing import Any


def as_markdown(notebook: str) -> str:
    """The MyST text of a notebook's JSON."""
    return "\n\n".join(block for cell in json.loads(notebook)["cells"] for block in _blocks(cell)) + "\n"


def _blocks(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield _fenced("python", source)
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "text/html" in data:
            yield _fenced("{raw} html", f'<div style="overflow-x:auto">{"".join(data["text/html"])}</div>')  # wide tables scroll by themselves
        else:
            yield _fenced("text", "".join(data["text/plain"]))


def _fenced(kind: str, text: str) -> str:
    return f"```{kind}\n{text.rstrip()}\n```"
