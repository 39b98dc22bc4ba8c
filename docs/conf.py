"""Sphinx configuration: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``.

The build runs the examples, which takes minutes; ``-D plot_gallery=0`` leaves them out.
"""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here.parent), str(here)]  # the package, and gallery_order

from sklearn.experimental import enable_halving_search_cv  # noqa: E402, F401 (an example has it)

import sklearn_wiseale  # noqa: E402

project = "sklearn_wiseale"
author = "The sklearn_wiseale developers"
copyright = author
version = release = sklearn_wiseale.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "code"
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

autodoc_typehints = "none"  # the docstrings give the types, shapes included
numpydoc_show_class_members = False  # the templates list the members

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_",
    "ignore_pattern": r"(^|[/\\])(?!plot_)[^/\\]*\.py$|benchmarks",
    "within_subsection_order": "gallery_order.ByList",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_wiseale",),
    "plot_gallery": "True",  # a string, as ``-D plot_gallery=0`` gives one
    "abort_on_example_error": False,
    "write_computation_times": False,  # they would differ from build to build
    "min_reported_time": 10**6,
    "capture_repr": ("_repr_html_",),
    "show_signature": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["layout.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": project},
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {
    page: []
    for page in (
        "index",
        "tour",
        "guide",
        "why",
        "faq",
        "glossary",
        "mathematics",
        "extending",
        "benchmarks",
        "scaling",
        "auto_examples/*",
    )
}
