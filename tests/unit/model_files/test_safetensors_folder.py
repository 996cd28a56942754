"""map_tensors on folders that the tests write, with the safetensors package as the oracle."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tests.hostile_bytes import little_time
from tests.unit.model_files.safetensors_bytes import raw_file, write_json, write_weights
from yeoul.errors import ModelFileError
from yeoul.model_files.safetensors_folder import map_tensors


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        map_tensors(str(path))
    return caught.value.message


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_one_file_is_read(tmp_path):
    written = write_weights(tmp_path, {"a": (2, 3), "b": (4,), "empty": (0, 4)})
    folder = map_tensors(str(tmp_path))
    assert folder.keys() == written.keys()
    for name, values in written.items():
        assert folder[name].shape == values.shape
        assert folder[name].type_name == "F32"
        assert folder[name].data().view("<f4").reshape(values.shape).tolist() == values.tolist()


def test_shards_are_one_model(tmp_path):
    written = write_weights(tmp_path, {"a": (2, 3)}, {"b": (4,)}, {"c": (1,)})
    folder = map_tensors(str(tmp_path))
    assert {name: folder[name].data().view("<f4").tolist() for name in written} == {
        name: values.ravel().tolist() for name, values in written.items()
    }
    assert Path(folder["b"].file).name == "model-00002-of-00003.safetensors"


def test_a_file_of_the_safetensors_package_has_the_same_bytes(tmp_path):
    write_weights(tmp_path, {"a": (7, 3), "b": (4, 2, 1)})
    folder = map_tensors(str(tmp_path / "model.safetensors"))
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as oracle:
        for name in oracle.keys():  # noqa: SIM118  (no mapping)
            assert folder[name].data().tobytes() == oracle.get_tensor(name).tobytes()


def test_shards_without_an_index_are_found(tmp_path):
    write_weights(tmp_path, {"a": (2,)}, {"b": (2,)})
    (tmp_path / "model.safetensors.index.json").unlink()
    assert map_tensors(str(tmp_path)).keys() == {"a", "b"}


def test_a_missing_shard_is_named(tmp_path):
    write_weights(tmp_path, {"a": (2,)}, {"b": (2,)})
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "1 of 2 weight files are missing, the first is model-00002-of-00002.safetensors" in refused(tmp_path)


def test_a_tensor_that_the_index_promises_is_missed(tmp_path):
    write_weights(tmp_path, {"a": (2,)}, {"b": (2,)})
    index = tmp_path / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    write_json(index, {"weight_map": weight_map | {"lost.weight": "model-00001-of-00002.safetensors"}})
    assert "the first is 'lost.weight'" in refused(tmp_path)


def test_an_index_cannot_lead_out_of_the_folder(tmp_path):
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "../../etc/passwd"}})
    assert "expected a plain name inside the folder" in refused(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path):
    for name in ("one.safetensors", "two.safetensors"):
        (tmp_path / name).write_bytes(raw_file({"a": entry([1], 0, 4)}, bytes(4)))
    assert "tensor 'a' is in two files" in refused(tmp_path)


def test_a_folder_without_weights_says_what_was_expected(tmp_path):
    assert "holds no weights: expected model.safetensors" in refused(tmp_path)
    assert "cannot read the model folder" in refused(tmp_path / "missing")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"\x01\x02", "truncated"),
        (raw_file({}, claimed=1 << 63), "claims a header of"),
        (raw_file(b"not json"), "damaged header"),
        (raw_file(b"[]"), "damaged header"),
        (raw_file(b'{"a": \xff}'), "damaged header"),
        (raw_file(b'{"a":' + b"[" * 5000), "damaged header"),
        (raw_file({"a": {"dtype": "F32"}}), "damaged header"),
        (raw_file({"a": entry([2], 0, 8)}, bytes(4)), "truncated: tensor 'a'"),
        (raw_file({"a": entry([2], 0, 4)}, bytes(8)), "expected 8 bytes"),
        (raw_file({"a": entry([-2], 0, 8)}, bytes(8)), "impossible shape"),
        (raw_file({"a": entry([1 << 62] * 3, 0, 8)}, bytes(8)), "impossible shape"),
        (raw_file({"a": entry([1] * 99, 0, 4)}, bytes(8)), "impossible shape"),
        (raw_file({"a": entry([1], -4, 0)}, bytes(8)), "claims the bytes -4 to 0"),
        (raw_file({"a": entry([2], 0, 8, "F99")}, bytes(8)), "unknown dtype 'F99'"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path, raw, message):
    (tmp_path / "model.safetensors").write_bytes(raw)
    assert message in refused(tmp_path)


WHOLE = raw_file({"__metadata__": {"format": "pt"}, "a": entry([2, 2], 0, 16), "b": entry([2], 16, 20, "BF16")}, bytes(20))


@given(
    st.integers(0, len(WHOLE)),
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=9)), max_size=4),
)
@settings(max_examples=200)
@little_time(2)
def test_whatever_is_damaged_is_refused_or_read_but_never_crashes(length, changes):
    raw = bytearray(WHOLE)
    for position, replacement in changes:
        raw[position : position + len(replacement)] = replacement
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.safetensors").write_bytes(raw[:length])
        with contextlib.suppress(ModelFileError):
            for tensor in map_tensors(folder).values():
                assert tensor.data().nbytes == len(tensor.content)
