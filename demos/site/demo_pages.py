"""The pages of the demos: the picture first, then the story, the cells and every figure.

A page shows the cells that sphinx-gallery cuts (notebooks.py), with the line numbers of the demo;
names of the package are links to the lines that define them. Nothing is run: pictures, films and
figures are those that are committed.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import PurePosixPath

from demos.lecture import Slide
from demos.readme import finding, question
from demos.site import chapters, crossings, markdown, names, notebooks, places
from demos.targets import records


def demo_page(demo: str) -> str:
    """The page of a demo as Markdown."""
    here = places.page(demo) or ""
    stem = PurePosixPath(demo).stem
    story, *cells = notebooks.cells(demo)
    title, command, text = story.content.split("\n\n", 2)
    parts = [
        markdown.escaped(title).replace("\\#", "#", 1),
        markdown.raw(pictures(stem, title.removeprefix("# "), here)),
        markdown.raw(offers(demo, command, here)),
        markdown.of_docstring(with_paragraphs(text), demo, here),
        markdown.raw(demo_crossings(demo, here)),
    ]
    for cell in cells:
        if cell.kind == "text":
            parts.append(cell_text(cell.content, demo, here))
        else:
            lines = f":first: {cell.first}\n:last: {cell.last}"
            parts.append(f"```{{source}} {demo}\n{lines}\n```")
    parts.append(figures(demo, here))
    return "\n\n".join(parts) + "\n"


def with_paragraphs(story: str) -> str:
    """The story of a demo with "Read first: ..." and the citations after it as paragraphs."""
    return re.sub(r"\n(Read first: [^\n]*(?:\n[^\n]*?\.py[^\n]*)*)\n?", r"\n\n\1\n\n", story)


def cell_text(content: str, demo: str, here: str) -> str:
    """The heading of a cell, and the text below it."""
    heading, _, text = content.partition("\n\n")
    heading = f"## {markdown.escaped(heading.removeprefix('## '))}"
    return f"{heading}\n\n{markdown.with_paths(markdown.escaped(text), demo, here)}"


def pictures(stem: str, title: str, here: str) -> str:
    """The committed pictures and films of a demo, the main picture first and large."""
    files = [path for path in places.below("demos/gallery") if path.endswith(places.PICTURES)]
    own = [path for path in files if PurePosixPath(path).stem.startswith(stem)]
    own.sort(key=lambda path: (PurePosixPath(path).name != f"{stem}.png", path))
    shown = []
    for path in own:
        source = places.relative(here, path)
        record = records(stem)["default"]
        caption = escape(record["title"] if path == own[0] else PurePosixPath(path).name)
        kind = "film" if path.endswith(".gif") else "picture"
        shown.append(
            f'<figure class="{kind}"><a href="{source}"><img src="{source}" '
            f'alt="{escape(title)}: {caption}"></a><figcaption>{caption}</figcaption></figure>'
        )
    return f'<div class="pictures">{"".join(shown)}</div>'


def offers(demo: str, command: str, here: str) -> str:
    """The command and its time, and what can be downloaded."""
    stem = PurePosixPath(demo).stem
    code, _, minutes = command.partition(": ")
    notebook = places.relative(here, f"notebooks/{stem}.ipynb")
    script = places.relative(here, f"scripts/{stem}.py")
    return (
        f'<p class="offers"><code>{escape(code.strip("`"))}</code> <span>{escape(minutes)}</span> '
        f'<a class="button" href="{notebook}" download>Notebook</a> '
        f'<a class="button" href="{script}" download>Script</a> '
        f'<a class="button" href="#figures">Figures</a></p>'
    )


def demo_crossings(demo: str, here: str) -> str:
    """The slides of a demo, the files it shows, and their tests."""
    rows = []
    slides = crossings.slides(demo)
    if slides:
        rows.append(("Slides", ", ".join(slide_link(slide, here) for slide in slides)))
    own, others = crossings.files_of_demo(demo)
    if own:
        rows.append(("Read", ", ".join(file_link(file, here) for file in own)))
    tests = crossings.unique([slide.test for slide in slides])
    if tests:
        links = [chapters.anchor_to(here, test, chapters.test_name(test)) for test in tests]
        rows.append(("Tests", ", ".join(links)))
    links = ", ".join(file_link(file, here) for file in others)
    summary = f"{len(others)} {'further' if own else ''} files of the package"
    rows.append(("Uses", f"<details><summary>{summary}</summary>{links}</details>"))
    return chapters.definition_list(rows)


def slide_link(slide: Slide, here: str) -> str:
    """A link to a slide on the page of the lecture."""
    target = places.relative(here, f"lecture.html#{crossings.slide_anchor(slide)}")
    return f'<a href="{target}">{escape(slide.english)}</a>'


def file_link(file: str, here: str) -> str:
    """A link to a file of the package, by its short name."""
    return chapters.anchor_to(here, file, chapters.short(file))


def figures(demo: str, here: str) -> str:
    """Every figure of a demo: the tables of demos/figures, without the title of that page."""
    stem = PurePosixPath(demo).stem
    file = f"demos/figures/{stem}.md"
    _, _, text = names.text(file).partition("\n## ")
    text = markdown.for_site(f"### {text.replace(chr(10) + '## ', chr(10) + '### ')}", file, here)
    return (
        f'## <span id="figures" class="anchor"></span>Figures\n\n**Bold**: a target that was '
        f"missed.\n\n{text}"
    )


# ── all demos ────────────────────────────────────────────────────────────────────────────────────


def gallery(here: str) -> str:
    """All demos as cards: picture, question, time."""
    cards = []
    for demo in places.demo_files():
        stem = PurePosixPath(demo).stem
        picture = places.relative(here, f"demos/gallery/{stem}.png")
        title = escape(question(names.ROOT / demo))
        minutes = escape(records_minutes(stem))
        cards.append(
            f'<a class="card" href="{places.link(here, demo)}"><img src="{picture}" alt="" '
            f'loading="lazy"><strong>{title}</strong><span>{minutes}</span></a>'
        )
    return markdown.raw(f'<div class="gallery">{"".join(cards)}</div>')


def records_minutes(stem: str) -> str:
    """How long a demo takes."""
    from demos.readme import minutes

    return minutes(stem)


def slide_finding(slide: Slide) -> str:
    """What the demo's picture proves, in a sentence."""
    stem = PurePosixPath(crossings.demo_of(slide)).stem
    return slide.proves or finding(slide.english, records(stem)["default"]["title"])
