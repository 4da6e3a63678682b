"""How Sphinx shows the pages that tools/site.py lays out: `make site`."""

project = html_title = "Finetuning language models"
copyright = "the authors of the course, CC BY 4.0"
language = "en"
root_doc = "index"
exclude_patterns = ["_extra"]
extensions = ["myst_nb", "sphinx.ext.githubpages"]

nb_execution_mode = "off"  # pages show what is stored
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widgets are stored, so no script comes from a network
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_heading_anchors = 4  # as GitHub and JupyterLab make them, so links fit all three

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_extra_path = ["_extra"]
html_copy_source = False
html_use_index = False  # the glossary is one
html_context = {"default_mode": "auto"}
html_theme_options = {
    "footer_content_items": ["copyright.html"],
    "navbar_persistent": [],  # one field to search in is enough
    "show_navbar_depth": 1,
    "back_to_top_button": False,  # covers text, and white on orange is hard to read
    "use_download_button": False,  # each lesson has its own under the title
    "use_fullscreen_button": False,
}
