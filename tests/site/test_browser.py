"""The site in a real headless browser, read from the disk: no error, no request that leaves its
folder, readable on a phone and on a desktop, with the keyboard and in the dark, formulas typeset.

It needs the extra [site] (playwright) and Chromium or Chrome: conftest.py. The screenshots of the
pages lie in TINYCV_SCREENSHOTS, if that names a folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
# One page of each kind, and the longest formulas
PAGES = (
    "index.html",
    "README.zh.html",
    "lecture.html",
    "glossary.html",
    "demos/06_vit.html",
    "demos/17_diffusion_digits.html",
    "api/tinycv.nn.html",
    "tinycv/sequence/attention.html",
    "tinycv/adversarial/gan.html",
    "tinycv/diffusion/samplers.html",
    "tinycv/diffusion/edm.html",
    "tinycv/diffusion/index.html",
)
WITH_FORMULAS = ("sequence", "vision", "adversarial", "likelihood", "diffusion", "nn", "optim")


class Tab:
    """A page of the browser that notes what went wrong on it."""

    def __init__(self, page: sync_api.Page, site: Path):
        self.page, self.site = page, site
        self.problems: list[str] = []
        page.on("console", self.said)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        page.on("request", self.asked)

    def said(self, message: sync_api.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def asked(self, request: sync_api.Request) -> None:
        address = urlparse(request.url)
        if address.scheme == "data":
            return
        inside = Path(unquote(address.path)).is_relative_to(self.site)
        if address.scheme != "file" or not inside:
            self.problems.append(f"leaves the folder: {request.url}")

    def open(self, name: str) -> None:
        """Load a page, and wait until its formulas are typeset."""
        self.problems.clear()
        file, mark, query = name.partition("?")
        self.page.goto((self.site / file).as_uri() + mark + query)
        self.page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        # a container's root may not use the sandbox, and its /dev/shm is small
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        running = playwright.chromium.launch(executable_path=chromium, args=options)
        yield running
        running.close()


@pytest.fixture(params=WIDTHS)
def tab(request: pytest.FixtureRequest, browser: sync_api.Browser, site: Path) -> Iterator[Tab]:
    width, height = WIDTHS[request.param]
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        yield Tab(context.new_page(), site)


@pytest.fixture
def desktop(browser: sync_api.Browser, site: Path) -> Iterator[Tab]:
    width, height = WIDTHS["desktop"]
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        yield Tab(context.new_page(), site)


def keep_screenshot(tab: Tab, name: str) -> None:
    folder = os.environ.get("TINYCV_SCREENSHOTS")
    if folder:
        path = Path(folder) / f"{name.replace('/', '_')}.png"
        tab.page.screenshot(path=path, full_page=True)


# What a page says about itself

FORMULAS = """() => {
  const all = [...document.querySelectorAll('.math')];
  const drawn = all.map(element => element.querySelector('mjx-container'));
  const small = drawn.filter(box => !box || !box.getBoundingClientRect().width);
  const errors = [...document.querySelectorAll('mjx-merror')].map(box => box.textContent);
  const article = document.querySelector('article').cloneNode(true);
  article.querySelectorAll('mjx-container, pre, code').forEach(element => element.remove());
  const raw = article.textContent.match(/\\\\[a-zA-Z]{3,}|\\$[^$ ]+\\$|\\\\\\(/g) || [];
  return {number: all.length, small: small.length, errors: errors, raw: raw};
}"""
PICTURES = """async () => {
  const all = [...document.querySelectorAll('article img')];
  for (const image of all) image.loading = 'eager';
  await Promise.all(all.map(image => image.decode().catch(() => null)));
  // a thumbnail inside a link with words needs no second description
  const named = image => image.alt.trim() || image.closest('a')?.textContent.trim();
  return all.filter(image => !image.naturalWidth || !named(image)).map(image => image.src);
}"""
TEXT = """() => {
  const size = element => parseFloat(getComputedStyle(element).fontSize);
  const shown = selector => [...document.querySelectorAll(selector)].filter(e => e.offsetWidth);
  return {
    overflow: document.scrollingElement.scrollWidth - document.documentElement.clientWidth,
    text: Math.min(...shown('article p, article li, article td').map(size)),
    code: Math.min(99, ...shown('article pre, article code').map(size)),
  };
}"""
# The contrast of each combination of colours on the page, by the formula of WCAG 2
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = {};
  const rgba = text => {
    if (known[text]) return known[text];
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return known[text] = [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const seen = new Set(), low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!walker.currentNode.data.trim() || !box.width || !box.height) continue;
    if (element.closest('script, style, template, mjx-assistive-mml, .visually-hidden')) continue;
    const style = getComputedStyle(element);
    if (style.visibility === 'hidden' || style.opacity === '0') continue;
    const ground = behind(element), ink = over(rgba(style.color), ground);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const large = size >= 24 || bold && size >= 18.66;
    const key = [ink, ground, large].join();
    if (seen.has(key)) continue;
    seen.add(key);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5))
      low.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: `
               + walker.currentNode.data.trim().slice(0, 40));
  }
  return low;
}"""
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_readable(name, tab):
    tab.open(name)
    formulas = tab.page.evaluate(FORMULAS)
    pictures = tab.page.evaluate(PICTURES)
    text = tab.page.evaluate(TEXT)
    keep_screenshot(tab, f"{tab.page.viewport_size['width']}_{name}")
    assert tab.problems == []
    assert (formulas["small"], formulas["errors"], formulas["raw"]) == (0, [], [])
    assert pictures == []
    assert text["overflow"] <= 0
    assert text["text"] >= 13
    assert text["code"] >= 11


@pytest.mark.parametrize("folder", WITH_FORMULAS)
def test_every_formula_of_a_folder_is_typeset(folder, desktop):
    typeset = 0
    for path in sorted((desktop.site / "tinycv" / folder).glob("*.html")):
        if 'class="math' not in path.read_text(encoding="utf-8"):
            continue
        desktop.open(f"tinycv/{folder}/{path.name}")
        found = desktop.page.evaluate(FORMULAS)
        assert (found["small"], found["errors"], found["raw"]) == (0, [], []), path.name
        assert desktop.problems == [], path.name
        typeset += found["number"]
    assert typeset > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "demos/06_vit.html", "tinycv/diffusion/edm.html"])
def test_text_stands_out_from_its_background(name, scheme, desktop):
    desktop.page.emulate_media(color_scheme=scheme)
    desktop.open(name)
    keep_screenshot(desktop, f"{scheme}_{name}")
    assert desktop.page.evaluate(CONTRAST) == []


def test_the_browsers_dark_mode_makes_the_page_dark(desktop):
    grounds = []
    for scheme in ("light", "dark"):
        desktop.page.emulate_media(color_scheme=scheme)
        desktop.open("index.html")
        grounds.append(desktop.page.evaluate(BACKGROUND))
    assert grounds[0] != grounds[1]


def test_the_button_for_the_theme_changes_it(desktop):
    desktop.page.emulate_media(color_scheme="light")
    desktop.open("index.html")
    grounds = set()
    for _ in range(3):
        desktop.page.locator(".theme-toggle:visible").first.click()
        grounds.add(desktop.page.evaluate(BACKGROUND))
    assert len(grounds) == 2


def test_the_keyboard_reaches_the_content_and_the_search(desktop):
    """Tab leads to the link over the navigation, then to the search; Enter follows and searches."""
    desktop.open("index.html")
    desktop.page.keyboard.press("Tab")
    first = desktop.page.evaluate("document.activeElement.getAttribute('href')")
    assert first is not None and first.startswith("#")
    reached = False
    for _ in range(30):
        desktop.page.keyboard.press("Tab")
        assert desktop.page.evaluate(FOCUS_IS_VISIBLE), "a focus that cannot be seen"
        reached = desktop.page.evaluate("document.activeElement.name === 'q'")
        if reached:
            break
    assert reached
    desktop.page.keyboard.type("attention")
    desktop.page.keyboard.press("Enter")
    desktop.page.wait_for_url("**/search.html?q=attention*")


def test_enter_follows_the_link_over_the_navigation(desktop):
    desktop.open("glossary.html")
    desktop.page.keyboard.press("Tab")
    target = desktop.page.evaluate("document.activeElement.getAttribute('href')")
    desktop.page.keyboard.press("Enter")
    assert desktop.page.evaluate("location.hash") == target
    desktop.page.keyboard.press("Tab")
    inside = "document.querySelector('.main').contains(document.activeElement)"
    assert desktop.page.evaluate(inside)


FOCUS_IS_VISIBLE = """() => {
  const style = getComputedStyle(document.activeElement);
  const wrapped = getComputedStyle(document.activeElement.parentElement);
  return [style, wrapped].some(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0
                                    || s.boxShadow !== 'none')
         || document.activeElement === document.body;
}"""


def test_search_finds_attention_without_a_server(desktop):
    desktop.open("search.html?q=attention")
    desktop.page.wait_for_selector("#search-results li a", timeout=10_000)
    desktop.page.wait_for_function("!document.querySelector('#search-progress')?.innerText.trim()")
    links = desktop.page.eval_on_selector_all("#search-results a", "all => all.map(a => a.href)")
    assert any("tinycv/sequence/attention.html" in link for link in links)
    assert desktop.problems == []


def test_the_notebook_of_a_demo_page_opens(desktop):
    desktop.open("demos/06_vit.html")
    links = desktop.page.eval_on_selector_all(
        "article a[href$='.ipynb']", "all => all.map(a => a.href)"
    )
    assert links
    notebook = json.loads(Path(unquote(urlparse(links[0]).path)).read_text(encoding="utf-8"))
    assert len(notebook["cells"]) > 3
