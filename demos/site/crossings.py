"""Which slides, demos and tests belong to a file: the links between slide, page, source and test.

Two sources say so. demos/lecture.py has, for each slide, the files to read, the demo and the test.
The sources themselves say which demo and which test uses what (names.py). Both are read in both
directions, so wherever a link leads, a link leads back.
"""

from __future__ import annotations

import posixpath
from functools import cache

from demos.lecture import LECTURE, Slide
from demos.readme import demo_path
from demos.site import names, places


def slide_anchor(slide: Slide) -> str:
    """Where the slide is on the page of the lecture: "slide-7"."""
    return f"slide-{LECTURE.index(slide) + 1}"


def demo_of(slide: Slide) -> str:
    """The demo of a slide, as a path below the root."""
    return f"demos/{demo_path(slide.demo).name}"


def package_files_of(slide: Slide) -> list[str]:
    """The files that a slide says to read, as paths below the root."""
    return [f"tinycv/{file}" for file in slide.files]


def slides(file: str) -> list[Slide]:
    """The slides that a file of the package, a demo or a test belongs to."""
    return [
        slide for slide in LECTURE if file in (*package_files_of(slide), demo_of(slide), slide.test)
    ]


@cache
def users(of_demos: bool) -> dict[str, list[str]]:
    """For each file of the package, the demos (or else the tests) that use it, in their order."""
    found: dict[str, list[str]] = {}
    for path in places.demo_files() if of_demos else places.test_files():
        for file in names.files_used(path):
            found.setdefault(file, []).append(path)
    return found


def demos(file: str) -> list[str]:
    """The demos that show a file of the package: those of its slides, then those that use it."""
    found = [demo_of(slide) for slide in slides(file)]
    return unique(found + users(of_demos=True).get(file, []))


def tests(file: str) -> tuple[list[str], list[str]]:
    """The tests of a file of the package, and the other tests that use it. A test is one of the
    file's own if a slide says so, or if it is in the folder of tests/ that mirrors the file's."""
    folder = posixpath.dirname(file).replace("tinycv", "tests", 1)
    using = users(of_demos=False).get(file, [])
    own = [slide.test for slide in slides(file)]
    own += [test for test in using if posixpath.dirname(test) == folder and folder != "tests"]
    return unique(own), [test for test in using if test not in own]


def tested(test: str) -> tuple[list[str], list[str]]:
    """The files of the package that a test is for, and the others that it uses."""
    used = sorted(names.files_used(test))
    own = [file for slide in slides(test) for file in package_files_of(slide)]
    own += [f for f in used if test in tests(f)[0] and not f.endswith("__init__.py")]
    return unique(own), [file for file in used if file not in own]


def files_of_demo(demo: str) -> tuple[list[str], list[str]]:
    """The files of the package that the slides of a demo say to read, and the others it uses."""
    own = unique([file for slide in slides(demo) for file in package_files_of(slide)])
    return own, [file for file in sorted(names.files_used(demo)) if file not in own]


def unique(paths: list[str]) -> list[str]:
    """The paths in their order, each once."""
    return list(dict.fromkeys(paths))
