"""How Sphinx builds the book: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

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
# pages that are reached by links only
suppress_warnings = ["toc.not_included"]
