"""CrashInquiry finds whoever crashes the workers, or whole engines, in few crashes, and blames nobody else."""

from __future__ import annotations

import random

import pytest

from yeoul.errors import GivenUpError, ProcessDeadError
from yeoul.recovery import restart_budget
from yeoul.recovery.crash_inquiry import BLAMES_NOBODY, CrashCount, CrashInquiry, Verdict, judge
from yeoul.recovery.restart_budget import RestartBudget

DEATH = ProcessDeadError("Worker_0", "was killed by signal 11 (SIGSEGV)", exit_code=-11)


class Life:
    """Requests that are computed together, a token each and they are done; some of them kill. ``places`` run at a time.

    With ``forgets`` each crash takes the inquiry with it, as a death of EngineCore does: the counts alone are kept.
    """

    def __init__(self, names: list[str], *, places: int = 1 << 30, forgets: bool = False, max_restarts: int = 5) -> None:
        self.left = list(names)
        self.places = places
        self.forgets = forgets
        self.inquiry = CrashInquiry()
        self.counts: dict[str, CrashCount] = {}
        self.culprits: list[str] = []
        self.num_crashes = 0
        self.budget = RestartBudget(max_restarts)

    def run(self, poison: set[str]) -> None:
        while self.left:
            self.inquiry.deal()
            computed = [name for name in self.left if not self.inquiry.holds_back(name)][: self.places]
            assert computed, "nobody may run"
            if poison & set(computed):
                self.crash(computed)
            else:
                self.budget.note_progress()
                for name in computed:
                    self.leave(name)
        self.inquiry.deal()
        assert self.inquiry.trial is None

    def crash(self, computed: list[str]) -> None:
        self.num_crashes += 1
        is_alone = len(computed) == 1
        verdict = self.inquiry.note_crash(computed, is_alone=is_alone)
        if self.forgets:
            verdict = judge(self.counts, computed, is_alone=is_alone)
            self.inquiry = CrashInquiry()
            for name in self.left:
                self.inquiry.enter(name, self.counts.get(name, CrashCount()))
        if verdict.culprit is not None:
            self.culprits.append(verdict.culprit)
            self.leave(verdict.culprit)
        self.budget.note_death(DEATH, verdict)

    def leave(self, name: str) -> None:
        self.left.remove(name)
        self.inquiry.clear(name)
        self.counts.pop(name, None)


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 7, 64, 256])
def test_one_culprit_is_found_in_a_logarithm_of_crashes(number, forgets):
    names = [f"r{index}" for index in range(number)]
    for guilty in (names[0], names[-1], random.Random(number).choice(names)):
        life = Life(names, forgets=forgets)
        life.run({guilty})
        assert life.culprits == [guilty]
        assert life.num_crashes <= 4 + (number - 1).bit_length()


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("places", [1, 3, 8, 1000])
def test_several_culprits_are_all_found_and_nobody_else_is_blamed(places, forgets):
    names = [f"r{index}" for index in range(40)]
    for seed in range(20):
        poison = set(random.Random(seed).sample(names, 5))
        life = Life(names, places=places, forgets=forgets)
        life.run(poison)
        assert set(life.culprits) == poison


def trial_of(inquiry: CrashInquiry) -> set[str] | None:
    return inquiry.trial


def test_a_single_crash_makes_no_suspects():
    inquiry = CrashInquiry()
    assert inquiry.note_crash(["a", "b"], is_alone=False) == BLAMES_NOBODY
    assert inquiry.deal()
    assert trial_of(inquiry) is None


def test_who_has_made_a_token_since_starts_anew():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a", "b"], is_alone=False)
    inquiry.clear("a")
    inquiry.note_crash(["a", "b"], is_alone=False)
    inquiry.deal()
    assert trial_of(inquiry) == {"b"}


def test_crashes_that_come_by_chance_clear_everybody():
    inquiry = CrashInquiry()
    for _ in range(2):
        inquiry.note_crash(["a", "b", "c"], is_alone=False)
    assert inquiry.deal()
    assert trial_of(inquiry) == {"a", "b"}
    inquiry.clear("a")
    assert not inquiry.deal()
    assert trial_of(inquiry) == {"b"}
    inquiry.clear("b")
    assert inquiry.deal()
    assert trial_of(inquiry) == {"c"}
    inquiry.clear("c")
    assert inquiry.deal()
    assert trial_of(inquiry) is None
    assert not inquiry.deal()


def test_a_crash_that_comes_before_the_trial_counts_against_nobody():
    inquiry = CrashInquiry()
    for _ in range(2):
        inquiry.note_crash(["a", "b"], is_alone=False)
    assert inquiry.note_crash([], is_alone=False) == BLAMES_NOBODY
    inquiry.deal()
    assert trial_of(inquiry) == {"a"}


def test_those_of_a_trial_that_were_not_computed_yet_are_as_suspect_as_before():
    inquiry = CrashInquiry()
    for _ in range(2):
        inquiry.note_crash(["a", "b", "c", "d"], is_alone=False)
    inquiry.deal()
    assert inquiry.note_crash(["b"], is_alone=True).num_suspects == 4
    inquiry.deal()
    assert trial_of(inquiry) == {"b"}
    inquiry.clear("b")
    inquiry.deal()
    assert trial_of(inquiry) == {"a", "c"}


def test_who_leaves_between_a_death_and_the_next_trial_changes_nothing_of_it():
    inquiry = CrashInquiry()
    for _ in range(2):
        inquiry.note_crash(["a", "b", "c", "d", "e", "f"], is_alone=False)
    inquiry.deal()
    inquiry.note_crash(["a", "b", "c"], is_alone=False)
    inquiry.clear("b")
    assert inquiry.deal()
    assert trial_of(inquiry) == {"a"}


def test_a_death_beside_others_does_not_count_as_a_death_alone():
    inquiry = CrashInquiry()
    for is_alone in (True, True, False, True):
        assert inquiry.note_crash(["a"], is_alone=is_alone).culprit is None
    assert inquiry.note_crash(["a"], is_alone=True).culprit == "a"


def test_who_comes_with_counts_from_an_engine_that_died_is_tried_and_others_wait():
    inquiry = CrashInquiry()
    inquiry.enter("fresh", CrashCount())
    inquiry.enter("once", CrashCount(1))
    inquiry.enter("a", CrashCount(3))
    inquiry.enter("b", CrashCount(3, 1))
    assert not inquiry.holds_back("fresh")
    assert inquiry.deal()
    assert trial_of(inquiry) == {"a"}
    assert inquiry.holds_back("fresh")
    inquiry.clear("a")
    inquiry.deal()
    assert inquiry.note_crash(["b"], is_alone=True).culprit == "b"
    assert inquiry.deal()
    assert trial_of(inquiry) is None


@pytest.mark.parametrize("number", [8, 64, 256, 1280])
def test_where_whatever_is_computed_crashes_the_restarts_have_an_end(number):
    life = Life([f"r{index}" for index in range(number)], places=256)
    with pytest.raises(GivenUpError, match="in a row that brought no token"):
        life.run(set(life.left))
    assert life.num_crashes <= 2 * number.bit_length() + 16
    assert len(life.culprits) <= 6


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_few_bad_requests_alone_on_a_server_do_not_end_it(number):
    names = [f"r{index}" for index in range(number)]
    together = Life(names)
    together.run(set(names))
    assert set(together.culprits) == set(names)
    one_by_one = Life([])
    for name in names:
        one_by_one.left = [name]
        one_by_one.run({name})
    assert one_by_one.culprits == names


def test_deaths_without_a_token_between_are_counted_and_the_pauses_grow_to_half_a_minute():
    budget = RestartBudget(12)
    pauses = [budget.note_death(DEATH) for _ in range(12)]
    assert pauses == [0, 0, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    with pytest.raises(GivenUpError, match="given up after 12 restarts in a row"):
        budget.note_death(DEATH)


def test_a_token_ends_the_count():
    budget = RestartBudget(1)
    for _ in range(3):
        assert budget.note_death(DEATH) == 0.0
        budget.note_progress()


def test_trials_do_not_count_against_the_restarts_but_have_a_limit_of_their_own():
    budget = RestartBudget(0)
    for _ in range(2 * (64).bit_length() + restart_budget._NUM_TRIALS_TO_SPARE):
        assert budget.note_death(DEATH, Verdict(num_suspects=64)) == 0.0
    with pytest.raises(GivenUpError):
        budget.note_death(DEATH, Verdict(num_suspects=1))
