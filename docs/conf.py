"""Sphinx: pages in Markdown (MyST), the reference from the docstrings."""

import jaxdec

project = "jaxdec"
author = "the jaxdec developers"
version = release = jaxdec.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"jaxdec {version}"
exclude_patterns = ["_build"]
default_role = "code"  # a name in single backticks is code, as in the sources
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and units stand in the text
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Legend", "Exactness", "Source"]
myst_heading_anchors = 3

SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:", "Legend:")


def show_equations(app, what, name, obj, options, lines):
    """An indented block of a docstring is a rule as an equation: it is shown as it stands."""
    out, last, inside = [], "", False
    for i, line in enumerate(lines):
        indented = line.startswith("  ")
        if indented and not inside and not lines[i - 1].strip() and last not in SECTIONS:
            out += ["", ".. code-block:: text", ""]
            inside = True
        elif line.strip() and not indented:
            last, inside = line.strip(), False
        # A bar in prose is an absolute value or an or, never a substitution.
        out.append(line if inside or "`" in line else line.replace("|", r"\|"))
    lines[:] = out


shown: dict[int, tuple] = {}


def skip_repeated(app, what, name, obj, skip, options):
    """What a package and its parent both export is shown at the first place alone."""
    if what != "module" or not isinstance(obj, type):
        return None
    here = app.env.docname, app.env.temp_data.get("autodoc:module")
    return True if shown.setdefault(id(obj), here) != here else None


def setup(app):
    """Runs before the sections are read."""
    app.connect("autodoc-skip-member", skip_repeated)
    app.connect("autodoc-process-docstring", show_equations, priority=100)
