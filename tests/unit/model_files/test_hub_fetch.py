"""Models from the hub: only the needed files, and no network once they are here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.model_files.shelf_hub import ShelfHub
from yeoul.errors import ModelFileError
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
    """A hub, and what a user types."""

    def __init__(self, folder: Path) -> None:
        self.hub = ShelfHub(folder / "hub", {"org/folder": dict(FOLDER), "org/ggufs": dict(GGUFS)})
        self.progress: list[tuple[str, int, int]] = []

    def fetch(self, text: str, **options: bool) -> ModelFiles:
        reference = HubReference.parse(text)
        assert reference is not None
        return fetch_hub_model(text, reference, None, self.hub, lambda *step: self.progress.append(step), **options)


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
    assert desk.hub.downloads[-2:] == ["model.safetensors", "config.json"], "and nothing else"


def test_without_a_listing_what_is_there_will_do(desk):
    files = desk.fetch("org/folder")
    desk.hub.forget_listings()
    desk.hub.is_reachable = False
    assert desk.fetch("org/folder") == files


def test_another_file_of_a_model_that_is_here_is_not_taken_for_the_one_that_is_meant(desk):
    assert desk.fetch("org/ggufs:Q8_0").path.endswith("Q8_0.gguf")
    assert desk.fetch("org/ggufs").path.endswith("Q4_K_M.gguf")
    desk.hub.is_reachable = False
    assert desk.fetch("org/ggufs").path.endswith("Q4_K_M.gguf")
    with pytest.raises(ModelFileError, match="the cable is cut"):
        desk.fetch("org/ggufs:f16")


def test_a_file_that_the_hub_got_later_is_found(desk):
    desk.fetch("org/ggufs:Q8_0")
    desk.hub.repositories["org/ggufs"]["tiny-Q2_K.gguf"] = b"GGUF2"
    assert desk.fetch("org/ggufs:Q2_K").path.endswith("Q2_K.gguf")


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


# What publishers put into one repository.
SHELF = [
    "README.md",
    "imatrix.gguf",
    "m-BF16/m-BF16-00001-of-00002.gguf",
    "m-BF16/m-BF16-00002-of-00002.gguf",
    "m-IQ4_0.gguf",
    "m-IQ4_NL.gguf",
    "m-Q4_0.gguf",
    "m-Q4_0_4_4.gguf",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-Q6_K.gguf",
    "m-Q6_K_L.gguf",
    "m-Q8_0.gguf",
    "m.f16.gguf",
    "mmproj-BF16.gguf",
    "mmproj-m-Q8_0.gguf",
    "mtp-m-Q4_0.gguf",
]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, ["m-Q4_K_M.gguf"]),
        ("Q8_0", ["m-Q8_0.gguf"]),
        ("q8_0", ["m-Q8_0.gguf"]),
        ("Q4_0", ["m-Q4_0.gguf"]),
        ("Q4_0_4_4", ["m-Q4_0_4_4.gguf"]),
        ("IQ4_0", ["m-IQ4_0.gguf"]),
        ("Q4_K", ["m-Q4_K_M.gguf"]),
        ("Q4_K_S", ["m-Q4_K_S.gguf"]),
        ("Q6_K", ["m-Q6_K.gguf"]),
        ("F16", ["m.f16.gguf"]),
        ("BF16", ["m-BF16/m-BF16-00001-of-00002.gguf", "m-BF16/m-BF16-00002-of-00002.gguf"]),
        ("m-q6_k_l.GGUF", ["m-Q6_K_L.gguf"]),
        ("m-BF16-00002-of-00002.gguf", ["m-BF16/m-BF16-00001-of-00002.gguf", "m-BF16/m-BF16-00002-of-00002.gguf"]),
        ("mmproj-BF16.gguf", ["mmproj-BF16.gguf"]),
    ],
)
def test_one_gguf_model_is_chosen(wanted, names):
    assert choose_model_files(HubReference("o/n", wanted), SHELF).names == names


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.gguf", "mmproj-a-f16.gguf"], "a.gguf"),
        (["a-Q8_0.gguf", "a-Q6_K.gguf", "imatrix_unsloth.gguf"], "a-Q8_0.gguf"),
        (["a-Q4_K_M.gguf", "a-Q8_0.gguf"], "a-Q4_K_M.gguf"),
        (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"], "a-00001-of-00002.gguf"),
    ],
)
def test_a_model_that_stands_out_needs_no_name(names, chosen):
    assert choose_model_files(HubReference("o/n", None), names).gguf_name == chosen


def test_a_gguf_model_comes_with_all_its_parts(desk):
    parts = {f"a-0000{number}-of-00002.gguf": b"GGUF" for number in (1, 2)}
    desk.hub.repositories["org/parts"] = {**parts, "mmproj.gguf": b""}
    files = desk.fetch("org/parts")
    assert Path(files.path).name == "a-00001-of-00002.gguf"
    assert desk.hub.downloads == list(parts)


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("o/n:Q5", ["a-Q8_0.gguf"], "no GGUF file matching 'Q5'; expected one of a-Q8_0.gguf"),
        ("o/n:Q", ["a-Q8_0.gguf", "a-Q6_K.gguf"], "2 GGUF files matching 'Q'"),
        ("o/n:Q8_0", ["a-Q8_0.gguf", "b-Q8_0.gguf"], "2 GGUF files matching 'Q8_0'"),
        ("o/n", ["a-Q2_K.gguf", "a-Q6_K.gguf"], "choose one, as o/n:FILE. There are a-Q2_K.gguf, a-Q6_K.gguf"),
        ("o/n", ["a-00001-of-00002.gguf"], "lacks 1 of 2 parts, a-00002-of-00002.gguf is one"),
        ("o/n", ["mmproj.gguf"], "no weights that this version can read"),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", HubReference("org/name", None)),
        ("org/name:Q4_K_M", HubReference("org/name", "Q4_K_M")),
        ("hf.co/org/name:Q4_K_M", HubReference("org/name", "Q4_K_M")),
        ("huggingface.co/org/name", HubReference("org/name", None)),
        ("hf://org/name", HubReference("org/name", None)),
        ("https://huggingface.co/org/name", HubReference("org/name", None)),
        ("https://huggingface.co/org/name/", HubReference("org/name", None)),
        ("https://hf.co/org/name?show_file_info=x.gguf", HubReference("org/name", None)),
        ("https://huggingface.co/org/name/tree/main", HubReference("org/name", None, "main")),
        ("https://huggingface.co/org/name/blob/main/x.gguf", HubReference("org/name", "x.gguf", "main")),
        (
            "https://huggingface.co/org/name/resolve/v1/a%20b/x.gguf?download=true",
            HubReference("org/name", "a b/x.gguf", "v1"),
        ),
    ],
)
def test_a_model_is_named_as_the_hub_and_others_name_it(text, expected):
    assert HubReference.parse(text) == expected


def test_the_revision_of_an_address_is_fetched_unless_another_is_asked_for(desk, monkeypatch):
    asked = []
    monkeypatch.setattr(desk.hub, "cached_files", lambda repository, revision: asked.append(revision))
    desk.fetch("https://hf.co/org/folder/tree/v2")
    reference = HubReference("org/folder", None, "v2")
    fetch_hub_model("x", reference, "v3", desk.hub, lambda *_: None)
    assert asked == ["v2", "v3"]


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "/etc/passwd",
        "../x/y",
        "a/b/c",
        "a b/c",
        "./a/b",
        "o/..",
        "",
        "o/n:",
        "https://hf.co/",
        "https://hf.co/a/../b/c",
    ],
)
def test_what_is_no_hub_id_is_told_apart(text):
    assert HubReference.parse(text) is None
