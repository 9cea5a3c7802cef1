"""python -m demos site            builds the site of tinycv in out/site, without a network
python -m demos notebooks       writes the demos as Jupyter notebooks to out/notebooks

The site is made from what is there: the READMEs, the demos with their pictures and figures, and the
docstrings and sources of the package. Nothing of it is written by hand or committed.

build.py        the two commands: write the documents, and let Sphinx make HTML of them
conf.py         the settings of Sphinx, which reads the documents through MyST
documents.py    the list of all documents: which Markdown file holds what
fronts.py       the READMEs as pages, their links rewritten; the lecture; the glossary
chapters.py     one page per file of the package: docstring, source, what leads there; the API
demo_pages.py   one page per demo: its picture first, its cells, its figures
notebooks.py    a demo's cells, cut by sphinx-gallery; the notebook that sphinx-gallery writes
markdown.py     what is done to Markdown and to docstrings: links, headings, escapes
places.py       where everything is: the page of a file, relative links from page to page
names.py        what a name in a source file means: the line that defines it
formulas.py     a docstring as Markdown: its blocks of formulas and tables, typeset
blocks.py       which blocks of a docstring are formulas, tables, code or commands
prose.py        prose of a docstring: the formulas inside its sentences
latex.py        LaTeX of a formula that is written as plain text
notation.py     the signs and names of these formulas, and how a text is cut into tokens
pieces.py       pieces of LaTeX: scripts, brackets, fractions, the room between them
mathjax.py      puts MathJax and its fonts into the site
crossings.py    which slides, demos and tests belong to a file, in both directions
source.py       highlighted source with line numbers, in which names are links
extension.py    the directive that shows source, and the pages that show nothing else
static/         the style sheets
"""
