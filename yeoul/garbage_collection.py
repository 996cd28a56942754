"""How Python's cycle collector behaves in a process that serves; knows nothing of what the process does.

Each process of the hierarchy postpones it when it starts, and settles it once it has started: a full collection over
everything that the imports left (torch alone brings some hundred thousand objects) would hold up a step for tens of
milliseconds.
"""

from __future__ import annotations

import gc

# Young objects are looked at more rarely than by default, old ones more often: what a connection leaves is cyclic, about ten
# kilobytes a request, and since all that a start made is left out, looking at everything is cheap.
_THRESHOLDS = (5_000, 5, 2)


def postpone_garbage_collection() -> None:
    """Until ``settle``: what a start makes is there to stay, and looking for garbage in it took a tenth of its time."""
    gc.disable()


def settle_garbage_collection() -> None:
    """From here on nothing that exists already is looked at, and the rest is looked at rarely."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(*_THRESHOLDS)
