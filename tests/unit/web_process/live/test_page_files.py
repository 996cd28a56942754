"""What the page is made of: nothing from elsewhere, no markup out of strings, every file of a size that can be read."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from yeoul.web_process.live.page.page_files import FOLDER, FRONT, HEADERS, read_page_files

FILES = read_page_files()
OURS = {name: file.content.decode() for name, file in FILES.items() if not name.startswith("uplot/")}
SCRIPTS = {name: text for name, text in OURS.items() if name.endswith(".js")}

# The library for plots, as npm has it: uplot 1.6.32.
UPLOT = {
    "uplot/uPlot.esm.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "uplot/uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot/LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
# What would make markup or code of a string.
MAKES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTML|srcdoc"
    r"|\beval\(|new Function|setTimeout\([\"'`]|javascript:"
)
NAMESPACES = ("http://www.w3.org/2000/svg",)


class Front(HTMLParser):
    """What the first file loads, and what the policy of the page would not run."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._is_in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "a":
            self.loaded += [value for name in ("src", "href") if (value := given.get(name)) is not None]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.inline += [tag] * (tag == "style" or (tag == "script" and "src" not in given))


def front() -> Front:
    parser = Front()
    parser.feed(OURS[FRONT])
    return parser


def test_the_front_loads_files_that_are_there_and_has_no_script_or_style_in_it():
    found = front()
    assert not found.inline
    assert found.loaded
    for path in found.loaded:
        assert path.removeprefix("page/") in FILES, path


def test_every_script_and_style_is_loaded_and_exists():
    named = {path.removeprefix("page/") for path in front().loaded}
    pending = [name for name in named if name.endswith(".js")]
    while pending:
        text = SCRIPTS.get(name := pending.pop(), "")
        for path in re.findall(r"(?:from|import)\s*\(?\s*\"\./([^\"]+)\"", text):
            assert path in FILES, f"{name} imports {path}"
            if path not in named:
                named.add(path)
                pending.append(path)
    assert named == set(FILES) - {FRONT}


def test_nothing_comes_from_elsewhere():
    for name, text in OURS.items():
        without_sources = re.sub(r"^\s*//.*$|\(https://[^)]*\)", "", text, flags=re.MULTILINE)
        addresses = re.findall(r"(?:https?:)?//[a-z][^\s\"'<>)]*", without_sources)
        assert all(address in NAMESPACES for address in addresses), f"{name}: {addresses}"
        assert "@import" not in text


def test_the_policy_allows_own_files_only_and_no_markup_of_strings():
    directives = {line.split()[0]: line.split()[1:] for line in HEADERS["content-security-policy"].split(";")}
    assert directives.pop("default-src") == ["'none'"]
    assert directives.pop("require-trusted-types-for") == ["'script'"]
    assert directives["frame-ancestors"] == ["'none'"]
    assert {source for sources in directives.values() for source in sources} == {"'self'", "'none'"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_of_strings(name):
    assert not MAKES_MARKUP.search(SCRIPTS[name])


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith((".js", ".css"))])
def test_a_file_says_what_it_is_and_stays_readable(name):
    text = OURS[name]
    assert text.startswith("// " if name.endswith(".js") else "/* "), "every file opens with a sentence"
    assert text.count("\n") <= 400
    assert max(map(len, text.splitlines())) <= 200


def test_the_library_for_plots_is_as_it_was_published_with_its_licence():
    for name, digest in UPLOT.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here, which reads JavaScript")
def test_every_script_can_be_read(tmp_path: Path):
    for name, text in SCRIPTS.items():
        (tmp_path / name.replace(".js", ".mjs")).write_text(text)
        done = subprocess.run(
            ["node", "--check", str(tmp_path / name.replace(".js", ".mjs"))], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
