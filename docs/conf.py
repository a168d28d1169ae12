"""How Sphinx builds the book: `make docs`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from notebook_page import as_markdown
from sphinx.application import Sphinx

from ipvs_model import KERNEL_VERSION, __version__

project = "ipvs_model"
author = "the ipvs_model authors"
copyright = author
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ipvs_model {release}, after Linux {KERNEL_VERSION}"
html_show_sphinx = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
# single backticks in docstrings are code, as in Markdown
default_role = "code"
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
# pages that are reached by links only
suppress_warnings = ["toc.not_included"]


class NotebookParser(MystParser):
    """Notebooks as pages, with the outputs that they hold."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        super().parse(as_markdown(inputstring), document)


def setup(app: Sphinx) -> None:
    app.add_source_parser(NotebookParser)
