"""CrashInquiry: whom to blame when the workers, or a whole engine, die while they compute requests; knows ids only.

A crash counts against a request if it had made no token since the last start. Who has two counts is a suspect. Suspects are
tried in halves, with nobody else computed beside them, until one crashes alone; it is to blame if it does so twice, since a
process may be killed by chance just when somebody is tried. Whoever makes a token is cleared. Called by Scheduler for
crashes of workers and by the web process for crashes of EngineCore.
"""

from __future__ import annotations

from collections.abc import Sequence

_NUM_COUNTS_OF_A_SUSPECT = 2


class CrashInquiry:
    """``trial`` are the requests that alone may be computed now; None where everybody may."""

    def __init__(self) -> None:
        self.has_advanced = False
        self._counts: dict[str, int] = {}
        self._crashed_alone: str | None = None
        self._groups: list[list[str]] = []  # of suspects that are still to be tried, the next one last

    @property
    def is_open(self) -> bool:
        """Whether anybody has a count."""
        return bool(self._counts)

    @property
    def trial(self) -> Sequence[str] | None:
        """See the class."""
        return self._groups[-1] if self._groups else None

    def note_crash(self, request_ids: Sequence[str], *, has_others: bool = False) -> str | None:
        """These were being computed and had made no token since the last start: the culprit, if one is found now.

        During a trial, who does not take part in it is not counted. ``has_advanced`` tells whether this crash brought us
        nearer to whoever is to blame. With ``has_others`` there were requests that had made tokens beside them: then a trial
        says nothing, and is held again.
        """
        self.has_advanced = False
        if self._groups:
            return None if has_others else self._narrow(request_ids)
        for request_id in request_ids:
            self._counts[request_id] = self._counts.get(request_id, 0) + 1
        suspects = [request_id for request_id in request_ids if self._counts[request_id] >= _NUM_COUNTS_OF_A_SUSPECT]
        self._push_halves(suspects)
        return None

    def note_progress(self, request_id: str) -> bool:
        """The request has made a token, or is gone; True where somebody else is to be tried from now on, or all are free."""
        if not self._counts:
            return False
        self._counts.pop(request_id, None)
        if request_id == self._crashed_alone:
            self._crashed_alone = None
        trial = self.trial
        self._groups = [left for group in self._groups if (left := [one for one in group if one != request_id])]
        return trial is not None and (self.trial is None or (request_id in trial and len(trial) == 1))

    def _narrow(self, request_ids: Sequence[str]) -> str | None:
        tried = [request_id for request_id in self._groups[-1] if request_id in request_ids]
        if not tried:
            return None  # the crash came before any of them was computed
        self._groups.pop()
        self.has_advanced = True
        if tried == [self._crashed_alone]:
            self._counts.pop(tried[0], None)
            return tried[0]
        self._crashed_alone = tried[0] if len(tried) == 1 else None
        self._push_halves(tried)
        return None

    def _push_halves(self, suspects: list[str]) -> None:
        middle = (len(suspects) + 1) // 2
        self._groups += [half for half in (suspects[middle:], suspects[:middle]) if half]
