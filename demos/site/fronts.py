"""The pages around demos and chapters: the READMEs, with links to pages of the site, and the
lecture slide by slide.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import PurePosixPath

from demos.lecture import LECTURE, Slide
from demos.site import chapters, crossings, demo_pages, markdown, names, places

BLOCK = r"<!-- {0} -->\n.*?<!-- /{0} -->"


def markdown_page(file: str) -> str:
    """A Markdown file of the clone as a page of the site."""
    here = places.page(file) or ""
    text = names.text(file)
    if file == "README.md":
        text = replaced(text, "gallery", demo_pages.gallery(here))
    if file == "demos/README.md":
        text = replaced(text, "sections", demo_pages.gallery(here))
    if file == "README.zh.md":
        text = in_language(text, "zh")
    text = with_slides(markdown.for_site(text, file, here), here)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def replaced(text: str, block: str, by: str) -> str:
    """The text with a generated block replaced."""
    return re.sub(BLOCK.format(block), lambda _: by, text, flags=re.DOTALL)


def in_language(text: str, language: str) -> str:
    """The text with the language of its paragraphs, for screen readers and for fonts."""
    title, _, rest = text.partition("\n")
    return f'{title}\n\n<div lang="{language}">\n\n{rest}\n\n</div>\n'


def with_slides(text: str, here: str) -> str:
    """The map of the lecture in which the name of a slide leads to the slide."""
    for slide in LECTURE:
        for name in {slide.english, slide.chinese}:
            link = places.relative(here, f"lecture.html#{crossings.slide_anchor(slide)}")
            anchor = f'<a class="slide" href="{link}">{name}</a>'
            text = text.replace(f"| **{name}**: ", f"| **{anchor}**: ")
    return text


def lecture_page() -> str:
    """The lecture, slide by slide: what the picture proves, what to read, run and test."""
    here = "lecture"
    parts = [
        "# The lecture, slide by slide",
        f"{len(LECTURE)} subjects. Each has a picture that a demo drew, source to read, and a "
        "test.",
    ]
    for slide in LECTURE:
        parts += [
            f'## <span id="{crossings.slide_anchor(slide)}" class="anchor"></span>'
            f"{markdown.escaped(slide.english)}",
            markdown.raw(slide_block(slide, here)),
        ]
    return "\n\n".join(parts) + "\n"


def slide_block(slide: Slide, here: str) -> str:
    """One slide: picture, finding, links."""
    demo = crossings.demo_of(slide)
    stem = PurePosixPath(demo).stem
    picture = places.relative(here, f"demos/gallery/{stem}.png")
    finding = re.sub(
        r"\[(.*?)\]\((.*?)\)",
        lambda match: f'<a href="{places.relative(here, match[2])}">{match[1]}</a>',
        escape(demo_pages.slide_finding(slide)),
    )
    rows = [
        (
            "Read",
            ", ".join(demo_pages.file_link(f, here) for f in crossings.package_files_of(slide)),
        ),
        ("Run", chapters.anchor_to(here, demo, stem)),
        ("Test", chapters.anchor_to(here, slide.test, chapters.test_name(slide.test))),
    ]
    return (
        f'<div class="slide"><a href="{places.link(here, demo)}"><img src="{picture}" '
        f'alt="the picture of demo {stem}" loading="lazy"></a>'
        f'<div><p lang="zh" class="chinese">{escape(slide.chinese)}</p>'
        f"<p>{finding}</p>{chapters.definition_list(rows)}</div></div>"
    )
