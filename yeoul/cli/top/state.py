"""Where somebody is in ``yeoul top``, and what a key does there: pure functions of what was seen; draws and asks nothing."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

import msgspec

from yeoul.cli.top.seen import Request, Seen

View = Literal["overview", "process", "request", "plots", "incidents", "log", "stack", "help"]

_VIEWS: dict[str, View] = {"?": "help", "p": "plots", "i": "incidents"}

SPANS_MINUTES = (1, 5, 15, 60)
"""What the plots may show."""


class Get(msgspec.Struct, frozen=True):
    """Details that the screen shows: asked again and again, as long as it does."""

    path: str


class Post(msgspec.Struct, frozen=True):
    """Something that the server is to do, once; ``done`` is said when it has."""

    path: str
    done: str


class Quit(msgspec.Struct, frozen=True):
    """The end."""


Action = Post | Quit


class Question(msgspec.Struct, frozen=True):
    """What is asked before something is done."""

    words: str
    then: Post


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown, and what is chosen. ``behind`` is where Esc leads back to.

    In the overview ``pane`` is the list that has the arrows. ``row`` is the chosen thread of a process; ``scroll`` the first
    line that is shown of what is longer than the screen, from the end where it is a log.
    """

    view: View = "overview"
    pane: Literal["processes", "requests"] = "processes"
    process: str = "Web"
    request: str = ""
    row: int = 0
    scroll: int = 0
    thread: int | None = None  # the tid whose stack is shown; None: of all
    of_all: bool = True  # the log
    span: int = 1
    question: Question | None = None
    behind: State | None = None


def wanted(state: State) -> Get | None:
    """What the view needs besides the overview."""
    if state.view == "stack":
        return Get(f"/debug/stack/{quote(state.process)}")
    if state.view == "log":
        return Get("/debug/log?limit=500" + ("" if state.of_all else f"&process={quote(state.process)}"))
    if state.view == "request":
        return Get(f"/debug/requests/{quote(state.request, safe='')}")
    return None


def settled(state: State, seen: Seen) -> State:
    """The same with a process and a request that are there to be chosen."""
    names = process_names(seen)
    if names and state.process not in names:
        state = _with(state, process=names[0])
    ids = [request.id for request in seen.requests]
    if state.view == "overview" and ids and state.request not in ids:
        state = _with(state, request=ids[0])
    return state


def press(state: State, key: str, seen: Seen) -> tuple[State, Action | None]:
    """What a key leads to, and what the server is to do, if anything."""
    if key == "ctrl-c":
        return state, Quit()
    if state.question is not None:
        answered = _with(state, question=None)
        return answered, state.question.then if key == "y" else None
    if key == "q":
        return state, Quit()
    if key in ("esc", "backspace", "left") and state.behind is not None:
        return state.behind, None
    if (view := _VIEWS.get(key)) is not None and view != state.view:
        return _enter(state, view), None
    if key in ("k", "a", "s", "l"):
        return _command(state, key, seen), None
    return _move(state, key, seen), None


def process_names(seen: Seen) -> list[str]:
    """The processes in the order in which they are shown."""
    return [process.name for process in seen.topology.processes] if seen.topology is not None else []


def chosen_request(state: State, seen: Seen) -> Request | None:
    """The request that is chosen in the list, if it is still in it."""
    return next((request for request in seen.requests if request.id == state.request), None)


def _command(state: State, key: str, seen: Seen) -> State:
    """A letter that does something with what is chosen."""
    if key == "l":
        if state.view == "log":
            return _with(state, of_all=not state.of_all, scroll=0)
        return _enter(state, "log", of_all=state.view not in ("process", "stack"))
    if key == "s" and state.view != "stack":
        process = seen.process(state.process)
        threads = process.threads if process is not None else []
        in_list = state.view == "process" and state.row < len(threads)
        return _enter(state, "stack", thread=threads[state.row].tid if in_list else None)
    if key == "k":
        return _with(state, question=_kill(state, seen))
    if key == "a" and (state.view == "request" or state.pane == "requests") and state.request:
        post = Post(f"/debug/requests/{quote(state.request, safe='')}/abort", f"{state.request} is given up")
        return _with(state, question=Question(f"Give up the request {state.request}?", post))
    return state


def _kill(state: State, seen: Seen) -> Question:
    process = seen.process(state.process)
    pid = f" (pid {process.pid})" if process is not None and process.pid else ""
    words = f"Kill {state.process}{pid}? It is replaced; streams go on."
    if state.process == "Web":
        words = "Kill Web, the server itself? It will refuse."
    return Question(words, Post(f"/debug/kill/{quote(state.process)}", f"{state.process} was killed"))


def _move(state: State, key: str, seen: Seen) -> State:
    steps = {"up": -1, "down": 1, "pageup": -10, "pagedown": 10, "home": -(1 << 20), "end": 1 << 20}
    if state.view == "overview":
        if key in ("tab", "shift-tab"):
            return _with(state, pane="requests" if state.pane == "processes" else "processes")
        if key in ("enter", "right"):
            return _open(state, seen)
        return _choose(state, steps.get(key, 0), seen)
    if state.view == "process":
        return _move_in_process(state, key, steps.get(key, 0), seen)
    if state.view == "plots" and key in ("+", "-", "="):
        return _with(state, span=max(0, min(len(SPANS_MINUTES) - 1, state.span + (1 if key == "-" else -1))))
    if state.view == "log":  # its end is what one wants to see
        return _with(state, scroll=max(0, state.scroll - steps.get(key, 0)))
    return _with(state, scroll=max(0, state.scroll + steps.get(key, 0)))


def _move_in_process(state: State, key: str, step: int, seen: Seen) -> State:
    process = seen.process(state.process)
    if process is None:
        return state
    num_rows = len(process.threads) + len(process.tasks) + len(seen.links(process.name))
    if key in ("enter", "right"):
        return _command(state, "s", seen) if state.row < len(process.threads) else state
    return _with(state, row=max(0, min(num_rows - 1, state.row + step)))


def _choose(state: State, step: int, seen: Seen) -> State:
    if state.pane == "processes":
        return _with(state, process=_neighbour(process_names(seen), state.process, step))
    return _with(state, request=_neighbour([request.id for request in seen.requests], state.request, step))


def _neighbour(names: list[str], name: str, step: int) -> str:
    if not names:
        return name
    place = names.index(name) if name in names else 0
    return names[max(0, min(len(names) - 1, place + step))]


def _open(state: State, seen: Seen) -> State:
    if state.pane == "processes":
        return _enter(state, "process") if seen.process(state.process) is not None else state
    return _enter(state, "request") if chosen_request(state, seen) is not None else state


def _enter(state: State, view: View, **fields: object) -> State:
    return _with(state, view=view, row=0, scroll=0, behind=state, **fields)


def _with(state: State, **fields: object) -> State:
    return msgspec.structs.replace(state, **fields)
