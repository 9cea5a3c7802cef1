"""The settings of Sphinx for the site (build.py calls it)."""

from __future__ import annotations

from pathlib import Path

import tinycv
from demos.site.formulas import math_extensions

project = "tinycv"
author = "tinycv contributors"
release = version = tinycv.__version__
html_title = "tinycv"
copyright = "tinycv contributors, MIT licence"

extensions = ["myst_parser", "demos.site.extension", *math_extensions()]
source_suffix = {".md": "markdown"}
myst_all_links_external = True  # markdown.py writes every link as it is to be
myst_enable_extensions = ["colon_fence", "dollarmath"]
smartquotes = False  # "--quick" is two hyphens
# a README may skip a level of headings; a block of code may hold words of prose
suppress_warnings = ["myst.header", "misc.highlighting_failure"]

here = Path(__file__).parent
html_theme = "furo"
html_static_path = [str(here / "static")]
html_css_files = ["site.css", "formulas.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # a summary is fetched, which a page opened from a disk may not do
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {
        "color-brand-primary": "#0b5cad",
        "color-brand-content": "#0b5cad",
        "color-brand-visited": "#5c3d8c",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7db8f0",
        "color-brand-content": "#7db8f0",
        "color-brand-visited": "#c0a6ea",
    },
}
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"
