"""Keys, what is seen and what is drawn, together; on a terminal of a size and an encoding that the test chooses."""

from __future__ import annotations

import io

import httpx
from rich.console import Console

from tests.unit.cli.top.scenes import seen
from yeoul.cli.top.screen import Show
from yeoul.cli.top.state import Get, Post
from yeoul.cli.top.watch import Watch


class FakeWatch(Watch):
    """Asks nobody."""

    def __init__(self) -> None:
        super().__init__(httpx.Client(base_url="http://here"), 1.0, lambda: None)
        self.seen = seen()
        self.wants: list[Get | None] = []
        self.posts: list[Post] = []

    def want(self, wanted: Get | None) -> None:
        self.wants.append(wanted)

    def post(self, post: Post) -> None:
        self.posts.append(post)


def shown(encoding: str, *keys: str) -> tuple[str, FakeWatch]:
    watch = FakeWatch()
    data = io.BytesIO()
    console = Console(file=io.TextIOWrapper(data, encoding), width=80, height=24, force_terminal=True, color_system=None)
    show = Show(watch, console)
    for key in keys:
        assert show.press([key]) == (key != "q")
    console.print(show.render())
    console.file.flush()
    return data.getvalue().decode(encoding), watch


def test_a_screen_is_as_many_lines_as_the_terminal_has():
    text, _ = shown("utf-8")
    assert len(text.splitlines()) == 24
    assert "Worker_0 ↻2" in text


def test_a_terminal_without_unicode_gets_what_it_has():
    for keys in ((), ("p",), ("enter",), ("?",)):
        text, _ = shown("ascii", *keys)
        assert len(text.splitlines()) == 24
        assert text.isascii()
    assert "Worker_0 x2" in shown("ascii")[0]


def test_keys_reach_the_server():
    _, watch = shown("utf-8", "s", "esc", "end", "k", "y", "q")
    assert watch.wants[0] == Get("/debug/stack/Web")
    assert watch.wants[1] is None
    assert watch.posts == [Post("/debug/kill/Worker_0", "Worker_0 was killed")]


def test_scrolling_back_begins_at_the_end_of_what_is_there():
    watch = FakeWatch()
    show = Show(watch, Console(file=io.StringIO(), width=80, height=24))
    show.press(["?", "end"])
    show.render()
    assert show.state.scroll == 0, "all of it is on the screen"
