"""CrashInquiry: whom to blame when the workers, or a whole engine, die while they compute requests; knows ids only.

A death counts against a request that was being computed and had made no token since the last start. Who has two counts is a
suspect. Of the suspects with the most counts half are tried, with nobody else computed beside them, then half of those of
them in whom the next death was, until one dies alone; it is to blame if it does so twice, since a process may be killed by
chance just when somebody is tried. Whoever makes a token is cleared. Since the counts are all there is to know, they may
come from an engine that has died: the scheduler holds the inquiry, the web process counts deaths of EngineCore.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

_NUM_DEATHS_OF_A_SUSPECT = 2
_NUM_LONE_DEATHS_OF_A_CULPRIT = 2


class CrashCount(NamedTuple):
    """How often a process died of what may have been this request; ``num_alone``: how often nothing else can have been."""

    num_deaths: int = 0
    num_alone: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be tried."""
        return self.num_deaths >= _NUM_DEATHS_OF_A_SUSPECT


class Verdict(NamedTuple):
    """What a death has told: the request that is to blame, if one is found now, and how many suspects there are.

    ``num_suspects`` is 0 where the death brought us no nearer to whoever is to blame.
    """

    num_suspects: int = 0
    culprit: str | None = None


BLAMES_NOBODY = Verdict()


def judge(counts: MutableMapping[str, CrashCount], silent: Sequence[str], *, is_alone: bool) -> Verdict:
    """Counts a death against those that were being computed and had made no token.

    Args:
        counts: of all requests that have any; brought up to date.
        silent: the ids against which this death counts.
        is_alone: nothing else was being computed. Counts for a suspect only.
    """
    was_tried = False
    for request_id in silent:
        before = counts.get(request_id, CrashCount())
        was_tried |= before.is_suspect
        counts[request_id] = CrashCount(before.num_deaths + 1, before.num_alone + (is_alone and before.is_suspect))
    num_suspects = sum(count.is_suspect for count in counts.values()) if was_tried else 0
    if is_alone and silent and counts[silent[0]].num_alone >= _NUM_LONE_DEATHS_OF_A_CULPRIT:
        del counts[silent[0]]
        return Verdict(num_suspects, silent[0])
    return Verdict(num_suspects)


class CrashInquiry:
    """``trial`` are the requests that alone may be computed now; None where everybody may."""

    def __init__(self) -> None:
        self.trial: set[str] | None = None
        self._counts: dict[str, CrashCount] = {}
        self._is_dealt = True

    @property
    def suspect_ids(self) -> list[str]:
        """Those that a death counts against, one at least."""
        return list(self._counts)

    def enter(self, request_id: str, count: CrashCount) -> None:
        """A request comes with what it is known for."""
        if count.num_deaths:
            self._counts[request_id] = count
            if self.trial is None and count.is_suspect:
                self._is_dealt = False

    def clear(self, request_id: str) -> None:
        """The request has made a token, or is gone."""
        if self._counts and self._counts.pop(request_id, None) is not None and self.trial is not None:
            self.trial.discard(request_id)
            self._is_dealt &= bool(self.trial)

    def note_crash(self, silent: Sequence[str], *, is_alone: bool) -> Verdict:
        """The workers have died; see ``judge``."""
        self._is_dealt = False
        return judge(self._counts, silent, is_alone=is_alone)

    def deal(self) -> bool:
        """Chooses who is tried next, unless those that are tried now have not all been cleared; True if it has chosen."""
        if self._is_dealt:
            return False
        self._is_dealt = True
        most = max((count.num_deaths for count in self._counts.values()), default=0)
        if CrashCount(most).is_suspect:
            worst = [request_id for request_id, count in self._counts.items() if count.num_deaths == most]
            self.trial = set(worst[: (len(worst) + 1) // 2])
        else:
            self.trial = None
        return True

    def holds_back(self, request_id: str) -> bool:
        """Whether this request may not be computed now."""
        return self.trial is not None and request_id not in self.trial
