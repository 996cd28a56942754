"""CrashInquiry finds whoever crashes the workers, in few crashes, and blames nobody else."""

from __future__ import annotations

import random

import pytest

from yeoul.recovery.crash_inquiry import CrashInquiry


def run_until_settled(names: list[str], poison: set[str]) -> tuple[list[str], int]:
    """Everybody at once, again and again, until all are either blamed or have made a token: the culprits, and the crashes."""
    inquiry, culprits, num_crashes = CrashInquiry(), [], 0
    left = list(names)
    while left:
        computed = [name for name in left if inquiry.trial is None or name in inquiry.trial]
        assert computed, "nobody may run"
        if poison & set(computed):
            num_crashes += 1
            culprit = inquiry.note_crash(computed)
            if culprit is not None:
                culprits.append(culprit)
                left.remove(culprit)
        else:
            for name in computed:
                inquiry.note_progress(name)
                left.remove(name)
    assert inquiry.trial is None
    return culprits, num_crashes


@pytest.mark.parametrize("number", [1, 2, 3, 7, 64, 256])
def test_one_culprit_is_found_in_a_logarithm_of_crashes(number):
    names = [f"r{index}" for index in range(number)]
    for guilty in (names[0], names[-1], random.Random(number).choice(names)):
        culprits, num_crashes = run_until_settled(names, {guilty})
        assert culprits == [guilty]
        assert num_crashes <= 4 + (number - 1).bit_length()


def test_several_culprits_are_all_found_and_nobody_else_is_blamed():
    names = [f"r{index}" for index in range(40)]
    for seed in range(20):
        poison = set(random.Random(seed).sample(names, 5))
        culprits, _ = run_until_settled(names, poison)
        assert set(culprits) == poison


def test_a_single_crash_makes_no_suspects():
    inquiry = CrashInquiry()
    assert inquiry.note_crash(["a", "b"]) is None
    assert inquiry.trial is None


def test_who_has_made_a_token_since_starts_anew():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a", "b"])
    inquiry.note_progress("a")
    inquiry.note_crash(["a", "b"])
    assert inquiry.trial == ["b"]


def test_crashes_that_come_by_chance_clear_everybody():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a", "b", "c"])
    inquiry.note_crash(["a", "b", "c"])
    assert inquiry.trial == ["a", "b"]
    assert not inquiry.note_progress("a")
    assert inquiry.trial == ["b"]
    assert inquiry.note_progress("b")
    assert inquiry.trial == ["c"]
    assert inquiry.note_progress("c")
    assert inquiry.trial is None


def test_a_crash_that_comes_before_the_trial_narrows_nothing():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a", "b"])
    inquiry.note_crash(["a", "b"])
    assert inquiry.note_crash([]) is None
    assert inquiry.trial == ["a"]


def test_a_request_that_is_gone_is_tried_no_more():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a", "b"])
    inquiry.note_crash(["a", "b"])
    assert inquiry.note_progress("a")
    assert inquiry.trial == ["b"]
    assert not inquiry.note_progress("unknown")


def test_a_trial_that_others_took_part_in_says_nothing():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a"])
    inquiry.note_crash(["a"])
    assert inquiry.note_crash(["a"], has_others=True) is None
    assert inquiry.trial == ["a"]
    assert inquiry.note_crash(["a"]) is None
    assert inquiry.note_crash(["a"]) == "a"


def test_who_crashes_alone_once_is_tried_alone_again():
    inquiry = CrashInquiry()
    inquiry.note_crash(["a", "b"])
    inquiry.note_crash(["a", "b"])
    assert inquiry.note_crash(["a"]) is None
    assert inquiry.has_advanced
    assert inquiry.trial == ["a"]
    assert inquiry.note_progress("a")
    assert inquiry.trial == ["b"]
    assert inquiry.note_crash(["b"]) is None
    assert inquiry.note_crash(["b"]) == "b"
    assert inquiry.trial is None
