"""Show: joins keys, what is seen and what is drawn, for one terminal; knows neither its keyboard nor the server."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from rich.console import Console, Group

from yeoul.cli.top.draw import draw
from yeoul.cli.top.state import Post, Quit, State, press, settled, wanted
from yeoul.cli.top.watch import Watch

_PLAIN = str.maketrans("·▸↻…→←↑↓█", "->x~><^v#")  # for a terminal that has no others


class Show:
    """Where somebody is, and what that asks of the watch."""

    def __init__(self, watch: Watch, console: Console) -> None:
        self.state = State()
        self._watch = watch
        self._console = console

    def press(self, keys: Sequence[str]) -> bool:
        """Does what the keys say; False at the end."""
        for key in keys:
            self.state, action = press(settled(self.state, self._watch.seen), key, self._watch.seen)
            if isinstance(action, Quit):
                return False
            if isinstance(action, Post):
                self._watch.post(action)
            self._watch.want(wanted(self.state))
        return True

    def render(self) -> Group:
        """The whole screen."""
        self.state = settled(self.state, self._watch.seen)
        width, height = self._console.size
        encoding = self._console.encoding
        is_plain = not encoding.startswith("utf")
        screen = draw(self.state, self._watch.seen, self._watch.history, width, height, time.time(), is_plain=is_plain)
        self.state = msgspec.structs.replace(self.state, scroll=min(self.state.scroll, screen.max_scroll))
        for line in screen.lines:
            line.no_wrap, line.overflow = True, "crop"
            if is_plain:
                line.plain = line.plain.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        return Group(*screen.lines)
