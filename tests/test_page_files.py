"""The page's files as files: what they load, that their parts exist, and that what is written can be read."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[1] / "airflow_transient" / "plugin" / "static"
FILES = sorted(STATIC.iterdir())
MODULES = [path for path in FILES if path.suffix == ".js"]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)

#: WCAG 2.2: 4.5 for text (1.4.3), 3 for the edges of what can be used and the lines of charts (1.4.11).
TEXT, EDGE = 4.5, 3.0
GROUNDS = ("ground", "raised", "sunken")
PAIRS = [
    *((name, ground, TEXT) for name in ("text", "soft", "link") for ground in GROUNDS),
    *((name, ground, TEXT) for name in ("bad",) for ground in ("ground", "raised")),
    *((name, f"{name}-ground", TEXT) for name in ("good", "bad", "warn", "info")),
    ("on-brand", "brand", TEXT),
    ("on-brand", "brand-strong", TEXT),
    ("on-bad", "bad-strong", TEXT),
    *((name, ground, EDGE) for name in ("edge", "focus") for ground in ("ground", "raised")),
    *((name, "ground", EDGE) for name in ("brand", "series-a", "series-b")),
]


class Page(HTMLParser):
    """What index.html loads, and what a strict policy would not let run."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self._script = tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


def page() -> Page:
    read = Page()
    read.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    return read


def test_the_page_has_no_code_and_no_style_of_its_own() -> None:
    assert page().inline == []


def test_the_page_loads_its_own_files_and_no_others() -> None:
    assert page().loads
    assert [path for path in page().loads if not (path.startswith("static/") and (STATIC / path[7:]).is_file())] == []


@each_file
def test_no_file_names_another_place(path: Path) -> None:
    known = {"http://www.w3.org/2000/svg"}  # a name, and no address
    found = set(re.findall(r"[a-z]+://[^\s\"'`);]*[^\s\"'`);.,]", path.read_text(encoding="utf-8")))
    assert {place for place in found - known if not place.startswith("s3://") and place != "https://"} == set()


@each_module
def test_what_comes_from_outside_becomes_text(path: Path) -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|\.cookie"
    assert re.findall(markup, path.read_text(encoding="utf-8")) == []


@each_module
def test_a_module_imports_what_there_is(path: Path) -> None:
    for names, source in re.findall(r'import \{([^}]*)\} from "([^"]+)"', path.read_text(encoding="utf-8")):
        exported = (STATIC / source).read_text(encoding="utf-8")
        for name in filter(None, (name.strip() for name in names.split(","))):
            assert re.search(rf"export (async )?(function|class|const|let) {name}\b", exported), f"{name} of {source}"


@each_module
def test_an_export_is_used(path: Path) -> None:
    others = "\n".join(other.read_text(encoding="utf-8") for other in MODULES if other != path)
    exported = re.findall(r"export (?:async )?(?:function|class|const|let) (\w+)", path.read_text(encoding="utf-8"))
    assert [name for name in exported if not re.search(rf"\b{name}\b", others)] == []


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix in (".js", ".css")], ids=lambda path: path.name)
def test_a_file_fits_in_a_reader_s_head(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 300
    assert [line for line in lines if len(line) > 120] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("fore", "ground", "least"), PAIRS, ids=[f"{fore} on {ground}" for fore, ground, _ in PAIRS])
def test_contrast(theme: str, fore: str, ground: str, least: float) -> None:
    colours = palette()[theme]
    assert contrast(colours[fore], colours[ground]) >= least


def palette() -> dict[str, dict[str, str]]:
    rules = (STATIC / "theme.css").read_text(encoding="utf-8")
    themes = zip(("light", "dark"), rules.split(':root[data-theme="dark"]'), strict=True)
    return {name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rules)) for name, rules in themes}


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels)
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
