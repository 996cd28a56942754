"""Where kept blocks lie: a folder of this user, within its bound, files of an engine's own, and nothing that does not fit."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import msgspec
import pytest

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import ONLY_ENGINE, EngineAddresses, EnginePlace
from yeoul.config.settings import CacheSettings, Settings
from yeoul.engine_process import tier_place
from yeoul.engine_process.tier_place import NOWHERE, TierPlace, key_of, open_tier
from yeoul.errors import MachineError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.kv_cache.tier_file import TierFile, parse_entries
from yeoul.messages.reports import WorkerReady
from yeoul.messages.steps import TierFiles

BLOCK_BYTES = 5000  # two pages


def ready(cache_key="model", block_bytes=BLOCK_BYTES) -> WorkerReady:
    return WorkerReady(
        number=0,
        pid=1,
        device="fake",
        max_num_blocks=8,
        block_bytes=block_bytes,
        model_fingerprint="fp_0",
        cache_key=cache_key,
    )


class Opener:
    """Opens tiers under ``folder``, and closes them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[TierPlace] = []

    def open(self, *workers, disk=1 << 20, memory=None, owner="", engine=ONLY_ENGINE) -> TierPlace | None:
        addresses = EngineAddresses(input_address="ipc://in", output_address="ipc://out")
        cache = CacheSettings(kv_disk_bytes=disk, kv_memory_bytes=memory)
        settings = msgspec.structs.replace(
            fake_engine_settings(addresses, Settings(cache=cache)),
            tier_folder=str(self.folder),
            tier_owner=owner,
            place=engine,
        )
        place = open_tier(settings, list(workers or [ready()]))
        if place is NOWHERE:
            return None
        self.opened.append(place)
        return place

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def again(self, *workers, **options) -> TierPlace:
        """As the next start finds it."""
        self.close()
        place = self.open(*workers, **options)
        assert place is not None
        return place


@pytest.fixture
def opener(tmp_path):
    opener = Opener(tmp_path / "kv")
    yield opener
    opener.close()


def files_of(place: TierPlace) -> TierFiles:
    assert place.files is not None
    return place.files


def store(place: TierPlace, *slots: int, rank=0, number=0) -> None:
    files = files_of(place)
    file = TierFile.open(files.slot_paths[rank], files.entry_paths[rank], BLOCK_BYTES)
    for slot in slots:
        file.write(slot, bytes([number + slot + 1]) * 32, memoryview(bytes(BLOCK_BYTES)), slot)
    file.close()


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_the_next_start_knows_what_was_stored(opener):
    store(opener.again(), 0, 3)
    assert len(opener.again().index) == 2


def test_the_folder_and_its_files_are_of_this_user_alone(opener):
    store(opener.again(), 0)
    assert stat.S_IMODE(opener.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in opener.folder.iterdir()} == {0o600}


def test_a_folder_that_others_may_look_into_is_not_used(opener, caplog):
    opener.folder.mkdir()
    opener.folder.chmod(0o755)
    assert opener.open() is None
    assert "should be a folder of user" in caplog.text
    assert list(opener.folder.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_done_without(opener, caplog):
    opener.folder.write_text("a file")
    assert opener.open() is None
    assert "no blocks of the cache are kept: " in caplog.text


def test_a_link_in_the_place_of_a_file_is_not_followed(opener, tmp_path):
    place = opener.again()
    opener.close()
    other = tmp_path / "other"
    other.write_text("mine")
    os.unlink(files_of(place).slot_paths[0])
    os.symlink(other, files_of(place).slot_paths[0])
    assert opener.open() is None
    assert other.read_text() == "mine"


@pytest.mark.parametrize("worker", [ready(cache_key="another model"), ready(block_bytes=BLOCK_BYTES + 1)])
def test_another_configuration_never_finds_it(opener, worker):
    store(opener.again(), 0, 3)
    assert len(opener.again(worker).index) == 0
    assert len(opener.again().index) == 2


def test_engines_of_one_server_share_what_there_is_for_all_and_find_their_parts_again(opener):
    whole = opener.again()
    two = [EnginePlace(index, 2) for index in range(2)]
    opener.close()
    for found in (0, 2):
        places = [opener.open(engine=engine) for engine in two]
        assert places[0] is not None
        assert places[1] is not None
        assert [len(place.index) for place in places if place] == [found, found]
        assert places[0].index.num_slots == places[1].index.num_slots <= whole.index.num_slots // 2
        for place in opener.opened:
            store(place, 0, 3)
        opener.close()


def test_a_key_that_is_alone_finds_nothing_that_others_left(opener):
    store(opener.again(owner="first"), 0, 3)
    assert len(opener.again(owner="second").index) == 0
    assert len(opener.again().index) == 0
    place = opener.again(owner="first")
    assert len(place.index) == 2
    assert place.for_workers([ready()]) is place


def test_another_number_of_ranks_never_finds_it(opener):
    store(opener.again(), 0, 3)
    assert len(opener.again(ready(), ready()).index) == 0


def test_a_block_that_one_rank_lacks_is_not_known(opener):
    two = ready(), ready()
    place = opener.again(*two)
    store(place, 0, 3, 4, rank=0)
    store(place, 3, 4, rank=1)
    store(place, 0, rank=1, number=7)
    assert opener.again(*two).index.find([bytes([4]) * 32, bytes([5]) * 32]) == [3, 4]
    assert len(opener.opened[-1].index) == 2


def test_two_engines_at_once_have_files_of_their_own(opener):
    first = opener.open()
    second = opener.open()
    assert first is not None
    assert second is not None
    assert set(files_of(first).slot_paths).isdisjoint(files_of(second).slot_paths)
    store(first, 0)
    store(second, 1, 2)
    assert len(opener.again().index) == 1  # the first one's again


def test_it_never_has_more_than_it_may(opener):
    for model in range(6):
        place = opener.again(ready(cache_key=f"model {model}"))
        assert place.index.num_slots * 2 * 4096 <= 1 << 20
        store(place, *range(place.index.num_slots), number=0)
        assert bytes_in(opener.folder) <= 1 << 20
    assert len(opener.again(ready(cache_key="model 5")).index) == place.index.num_slots


def test_a_smaller_bound_cuts_off_what_is_beyond(opener):
    store(opener.again(), *range(100))
    place = opener.again(disk=1 << 19)
    assert 50 <= len(place.index) <= 64
    assert bytes_in(opener.folder) <= 1 << 19


def test_a_bound_below_any_use_is_said(opener, caplog):
    assert opener.open(disk=9000) is None
    assert "no room for any" in caplog.text


def test_files_of_another_version_begin_anew(opener):
    place = opener.again()
    store(place, 0, 3)
    with open(files_of(place).entry_paths[0], "r+b") as file:
        file.write(b"yeoul kv tier 0\0")
    assert len(opener.again().index) == 0
    store(opener.opened[-1], 1)
    assert len(opener.again().index) == 1


def test_memory_is_found_by_whoever_knows_the_descriptors(opener):
    place = opener.open(disk=None, memory=1 << 20)
    assert place is not None
    store(place, 0)
    assert not opener.folder.exists()


def test_nothing_is_opened_that_nobody_asked_for(opener):
    assert opener.open(disk=None) is None
    assert not opener.folder.exists()


def test_blocks_that_cannot_be_kept_are_a_mistake_of_who_asked(opener):
    with pytest.raises(MachineError, match="--kv-disk-bytes"):
        opener.open(ready(cache_key=""))


def test_ranks_that_differ_keep_nothing():
    assert key_of([ready(), ready(cache_key="other")]) is None
    assert key_of([ready(), ready()]) != key_of([ready()])


def test_workers_of_other_blocks_have_no_tier_and_leave_what_is_kept(opener, caplog):
    place = opener.again()
    store(place, 0, 3)
    opener.opened.remove(place)
    assert place.for_workers([ready(cache_key="written since")]) is NOWHERE
    assert "kept no longer" in caplog.text
    assert len(opener.again().index) == 2


def test_engines_leave_each_other_their_parts_and_others_what_is_left(opener):
    """Whatever other models and more engines than now have left, all engines together keep to the bound."""
    bound = 1 << 20
    for owner, num_engines in (("first", 1), ("second", 4), ("second", 2), ("first", 3)):
        places = [opener.open(owner=owner, engine=EnginePlace(index, num_engines)) for index in range(num_engines)]
        for place in places:
            assert place is not None
            store(place, *range(place.index.num_slots))
        assert bytes_in(opener.folder) <= bound
        opener.close()


@pytest.mark.parametrize("num_ranks", [1, 2])
@pytest.mark.parametrize("all_of_it", [True, False])
def test_what_is_thrown_away_is_not_found_by_the_next_start_where_no_engine_holds_it_either(opener, all_of_it, num_ranks):
    workers = [ready()] * num_ranks
    for place in [opener.open(*workers, engine=EnginePlace(index, 2)) for index in range(2)]:
        for rank in range(num_ranks):
            store(place, *range(6), rank=rank, number=10 * opener.opened.index(place))
    names = [bytes([11 + slot]) * 32 for slot in range(6)]  # of the second, which is in no server from now on

    def found(place: TierPlace) -> list[bytes]:
        assert place.neighbours is not None
        return [name for name in names if place.neighbours.find(name) is not None]

    place = opener.again(*workers)
    assert found(place) == names
    moves = place.moves(KVCacheManager(50, 16, True))
    assert moves is not None
    if all_of_it:
        moves.forget_all()
    else:
        moves.forget(names[2:4])
    left = [] if all_of_it else names[:2] + names[4:]
    assert found(place) == left
    assert found(opener.again(*workers)) == left


def test_what_another_engine_holds_is_its_own_to_throw_away(opener):
    first, second = (opener.open(engine=EnginePlace(index, 2)) for index in range(2))
    store(second, 0)
    moves = first.moves(KVCacheManager(50, 16, True))
    moves.forget_all()
    first.neighbours.look(at_once=True)
    assert first.neighbours.find(bytes([1]) * 32) is None
    with open(files_of(second).entry_paths[0], "rb") as file:
        assert len(list(parse_entries(file.read()))) == 1


def test_a_file_that_another_engine_has_just_removed_is_held_by_nobody(tmp_path):
    assert tier_place._hold(str(tmp_path / "gone.lock")) is None


@pytest.mark.parametrize("function", ["_hold_stem", "_sweep"])
def test_engines_that_start_at_once_look_for_files_one_after_the_other(opener, monkeypatch, function):
    real, was_alone = getattr(tier_place, function), []

    def watched(folder, *arguments):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            was_alone.append(True)
        os.close(descriptor)
        return real(folder, *arguments)

    monkeypatch.setattr(tier_place, function, watched)
    assert opener.open() is not None
    assert was_alone == [True]
    assert opener.open() is not None
