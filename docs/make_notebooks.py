"""Runs the notebooks of the book and writes what they show into them: `python docs/make_notebooks.py`; a test holds them against it."""

import os
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")  # jupyter warns where its old directories are still looked for

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

DOCS: Final = Path(__file__).parent
NOTEBOOKS: Final = sorted(DOCS.glob("*.ipynb"))


class LocalKernel(AsyncKernelManager):
    """A kernel that is reached by files instead of ports: no network."""

    transport = "ipc"


def run(path: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs that its cells have now, and nothing that differs from run to run. Raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_manager_class=LocalKernel, kernel_name="python3", timeout=120, record_timing=False).execute()
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[tuple[str, Any]]:
    """Source and outputs of each code cell."""
    return [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def main() -> None:
    for path in NOTEBOOKS:
        nbformat.write(run(path), path)
        print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
