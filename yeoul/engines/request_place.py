"""RequestPlace: where a request is on its way through the engine, as those in front of it know; no code but the table.

::

     submitted             engine there        "begun"             a token
    ───────────▶  HELD ───────────▶ SENT ───────────▶ BEGUN ───────────▶ GOING
                   ▲                 │ │                │                  │
                   │                 │ └────────────────┼──── a token ────▶┤
                   └─────────────────┴──────────────────┴──────────────────┘
                     the engine died, or does not know it when it is asked

    from anywhere: finished, failed or given up ──▶ GONE

When an engine dies, its death counts against what it had BEGUN; whoever was GOING starts anew.
"""

from __future__ import annotations

import enum


class RequestPlace(enum.Enum):
    """See the picture."""

    HELD = "held"  # here only: there is no engine now
    SENT = "sent"  # the engine has been told
    BEGUN = "begun"  # the engine has said that its workers have it
    GOING = "going"  # something has come of it since it was sent
    GONE = "gone"  # nothing more will come of it


MAY_FOLLOW: dict[RequestPlace, frozenset[RequestPlace]] = {
    RequestPlace.HELD: frozenset({RequestPlace.SENT, RequestPlace.GONE}),
    RequestPlace.SENT: frozenset({RequestPlace.BEGUN, RequestPlace.GOING, RequestPlace.HELD, RequestPlace.GONE}),
    RequestPlace.BEGUN: frozenset({RequestPlace.GOING, RequestPlace.HELD, RequestPlace.GONE}),
    RequestPlace.GOING: frozenset({RequestPlace.HELD, RequestPlace.GONE}),
    RequestPlace.GONE: frozenset(),
}
