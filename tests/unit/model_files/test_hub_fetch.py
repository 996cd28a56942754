"""Models from the hub: only the needed files, and no network once they are here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.model_files.shelf_hub import ShelfHub
from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.hub_choice import HubReference, choose_model_files
from yeoul.model_files.hub_fetch import fetch_hub_model

FOLDER = {
    "config.json": b"{}",
    "tokenizer.json": b"{}" * 3,
    "additional_chat_templates/tool_use.jinja": b"t",
    "model.safetensors": b"weights",
    "consolidated.safetensors": b"the same again",
    "pytorch_model.bin": b"a pickle",
    "README.md": b"read",
    "onnx/model.onnx": b"onnx",
}
GGUFS = {"README.md": b"", "tiny-Q4_K_M.gguf": b"GGUF4", "tiny-Q8_0.gguf": b"GGUF8", "tiny-f16.gguf": b"GGUF16"}


class Desk:
    """A cache, a hub, and what a user types."""

    def __init__(self, folder: Path) -> None:
        self.cache = CacheFolder(str(folder / "cache"))
        self.hub = ShelfHub(folder / "hub", {"org/folder": dict(FOLDER), "org/ggufs": dict(GGUFS)})
        self.progress: list[tuple[str, int, int]] = []

    def fetch(self, text: str, **options: bool) -> ModelFiles:
        reference = HubReference.parse(text)
        assert reference is not None
        return fetch_hub_model(
            text, reference, None, self.cache, self.hub, lambda *step: self.progress.append(step), **options
        )


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_a_folder_comes_without_what_is_not_needed(desk):
    files = desk.fetch("org/folder")
    assert (files.name, files.file_format) == ("org/folder", "safetensors")
    assert sorted(desk.hub.downloads) == [
        "additional_chat_templates/tool_use.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (Path(files.path) / "model.safetensors").read_bytes() == b"weights"
    assert desk.progress[-1] == ("fetching org/folder", 16, 16)
    assert [done for _, done, _ in desk.progress] == sorted(done for _, done, _ in desk.progress)


def test_the_second_time_the_hub_is_not_asked(desk):
    first = desk.fetch("org/folder")
    desk.hub.is_reachable = False
    assert desk.fetch("org/folder") == first
    assert desk.hub.num_listings == 1


def test_a_refresh_asks_again(desk):
    desk.fetch("org/folder")
    desk.hub.repositories["org/folder"]["model.safetensors"] = b"better weights"
    files = desk.fetch("org/folder", refresh=True)
    assert (Path(files.path) / "model.safetensors").read_bytes() == b"better weights"


def test_a_file_that_has_been_cut_or_deleted_is_fetched_again(desk):
    files = desk.fetch("org/folder")
    (Path(files.path) / "model.safetensors").write_bytes(b"wei")
    desk.fetch("org/folder")
    assert (Path(files.path) / "model.safetensors").read_bytes() == b"weights"
    os.unlink(Path(files.path) / "config.json")
    desk.fetch("org/folder")
    assert desk.hub.num_listings == 3


def test_without_a_record_the_hubs_own_cache_will_do(desk):
    files = desk.fetch("org/folder")
    for record in (Path(desk.cache.path) / "hub").iterdir():
        record.unlink()
    desk.hub.is_reachable = False
    assert desk.fetch("org/folder") == files


def test_out_of_reach_and_not_here_says_both(desk):
    desk.hub.is_reachable = False
    with pytest.raises(
        ModelFileError, match=r"'org/folder' is no local file, and .* \(the cable is cut\); check the network"
    ):
        desk.fetch("org/folder")


def test_a_cache_that_is_not_whole_does_not_do(desk):
    desk.fetch("org/folder", text_only=True)
    desk.hub.is_reachable = False
    with pytest.raises(ModelFileError, match="What is in the cache does not do: org/folder has no weights"):
        desk.fetch("org/folder")


def test_a_tokenizer_comes_without_weights(desk):
    files = desk.fetch("org/folder", text_only=True)
    assert files.file_format == "safetensors"
    assert "model.safetensors" not in desk.hub.downloads


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/ggufs", "tiny-Q4_K_M.gguf"),
        ("org/ggufs:tiny-f16.gguf", "tiny-f16.gguf"),
        ("org/ggufs:Q8_0", "tiny-Q8_0.gguf"),
        ("org/ggufs:q8_0", "tiny-Q8_0.gguf"),
    ],
)
def test_one_gguf_file_is_chosen(desk, text, name):
    files = desk.fetch(text)
    assert (files.file_format, Path(files.path).name) == ("gguf", name)
    assert desk.hub.downloads == [name]


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("o/n:Q5", ["a-Q8_0.gguf"], "no GGUF file matching 'Q5'; expected one of a-Q8_0.gguf"),
        ("o/n:Q", ["a-Q8_0.gguf", "a-Q6_K.gguf"], "2 GGUF files matching 'Q'"),
        ("o/n", ["a-Q8_0.gguf", "a-Q6_K.gguf"], "choose one, as o/n:FILE. There are a-Q6_K.gguf, a-Q8_0.gguf"),
        ("o/n", ["pytorch_model.bin", "config.json"], "no weights that this version can read"),
        ("o/n", [f"{number:02}.bin" for number in range(20)], "and 8 more"),
        ("o/n", [], "There are no such files"),
    ],
)
def test_what_cannot_be_chosen_is_listed(text, names, message):
    reference = HubReference.parse(text)
    assert reference is not None
    with pytest.raises(ModelFileError) as caught:
        choose_model_files(reference, names)
    assert message in caught.value.message


def test_shards_come_with_their_index():
    names = [
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    choice = choose_model_files(HubReference("o/n", None), [*names, "consolidated.safetensors"])
    assert sorted(choice.names) == sorted(names)


@pytest.mark.parametrize("text", ["name", "/etc/passwd", "../x/y", "a/b/c", "a b/c", "./a/b", "o/..", "", "o/n:"])
def test_what_is_no_hub_id_is_told_apart(text):
    assert HubReference.parse(text) is None
