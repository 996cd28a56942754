"""GgufFile on files that the tests write, with the gguf package as the oracle."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.hostile_bytes import little_time
from tests.unit.model_files.gguf_bytes import F16, IQ2_XXS, Q8_0, GgufBytes, Tensor, float_tensor, tiny_model
from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.file_identity import identify
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.gguf_types import COMPUTABLE_TYPES, TENSOR_TYPES


def refused(path: str) -> str:
    with pytest.raises(ModelFileError) as caught:
        GgufFile.open(path)
    return caught.value.message


def test_metadata_and_tensors_are_read(tmp_path):
    metadata = {"general.name": "tiny", "a.flag": True, "a.count": 7, "a.big": 1 << 40, "a.number": 0.5}
    path = GgufBytes(metadata, [float_tensor("x", 3, 4), float_tensor("y", 5)]).write(tmp_path)
    file = GgufFile.open(path)
    assert dict(file.metadata) == metadata
    assert file.tensors["x"].shape == (3, 4)
    assert file.tensors["x"].type_name == "F32"
    assert file.tensors["x"].data().view("<f4").tolist() == list(range(12))
    assert file.tensors["y"].data().view("<f4").tolist() == list(range(5))


def test_arrays_are_decoded_when_asked_for(tmp_path):
    metadata = {"s": ["", "å", "b" * 300], "i": [1, -2], "f": [0.5, -1.0], "b": [True, False], "after": "here"}
    file = GgufFile.open(GgufBytes(metadata).write(tmp_path))
    assert dict(file.metadata) == metadata


def test_a_token_that_is_not_utf8_becomes_a_replacement_character(tmp_path):
    file = GgufFile.open(GgufBytes({"tokens": [b"a\xff", b"ok"]}).write(tmp_path))
    assert file.metadata["tokens"] == ["a\ufffd", "ok"]


def test_the_alignment_of_the_file_counts(tmp_path):
    tensors = [float_tensor("x", 3), float_tensor("y", 2)]
    file = GgufFile.open(GgufBytes({"general.alignment": 256}, tensors, alignment=256).write(tmp_path))
    assert file.tensors["y"].data().ctypes.data % 256 == 0
    assert file.tensors["y"].data().view("<f4").tolist() == [0.0, 1.0]


def test_a_map_can_be_written_to_without_changing_the_file(tmp_path):
    path = GgufBytes({}, [float_tensor("x", 4)]).write(tmp_path)
    before = Path(path).read_bytes()
    file = GgufFile.open(path)
    file.tensors["x"].data()[:] = 255
    assert Path(path).read_bytes() == before
    assert GgufFile.open(path).tensors["x"].data().view("<f4").tolist() == [0.0, 1.0, 2.0, 3.0]


def test_the_type_table_is_that_of_the_gguf_package():
    for number, tensor_type in TENSOR_TYPES.items():
        oracle = gguf.GGMLQuantizationType(number)
        assert (tensor_type.name, tensor_type.block_size, tensor_type.block_bytes) == (
            oracle.name,
            *gguf.GGML_QUANT_SIZES[oracle],
        )
    assert set(COMPUTABLE_TYPES) <= {tensor_type.name for tensor_type in TENSOR_TYPES.values()}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_file_of_the_gguf_package_is_read_as_the_package_reads_it(tmp_path, kind):
    path = str(tmp_path / "oracle.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.name", "oracle")
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "▁a", "ß"])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.5, -2.0])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_int32("some.negative", -3)
    writer.add_float64("some.double", 0.1)
    weights = np.random.default_rng(0).standard_normal((6, 64), dtype=np.float32)
    quantization = gguf.GGMLQuantizationType[kind]
    writer.add_tensor("w", gguf.quantize(weights, quantization), raw_dtype=quantization)
    writer.add_tensor("norm", weights[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = GgufFile.open(path)
    oracle = gguf.GGUFReader(path)
    expected = {name: field.contents() for name, field in oracle.fields.items() if not name.startswith("GGUF.")}
    assert dict(file.metadata) == expected
    assert len(file.tensors) == len(oracle.tensors)
    for tensor in oracle.tensors:
        found = file.tensors[tensor.name]
        assert found.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert found.type_name == tensor.tensor_type.name
        assert found.data().tobytes() == tensor.data.tobytes()


def test_a_large_vocabulary_opens_quickly(tmp_path):
    tokens = [f"token{number}" for number in range(100_000)]
    path = GgufBytes({"tokenizer.ggml.tokens": tokens}).write(tmp_path)
    with little_time(1):
        GgufFile.open(path)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 15, 23, 24, 31, 60, 200])
def test_a_truncated_file_is_refused(tmp_path, length):
    whole = tiny_model().build()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:length])
    assert str(path) in refused(str(path))


def test_a_file_cut_in_its_tensors_says_which(tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(GgufBytes({}, [float_tensor("first", 8), float_tensor("second", 80)]).build()[:-10])
    assert "truncated: tensor 'second'" in refused(str(path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (GgufBytes(magic=b"GGML"), "it begins with b'GGML', expected b'GGUF'"),
        (GgufBytes(version=1), "version 1"),
        (GgufBytes(version=3 << 24), "a big-endian file"),
        (GgufBytes(num_tensors=1 << 60), f"it claims {1 << 60} tensors"),
        (GgufBytes(num_entries=(1 << 64) - 1), "metadata entries, more than it can hold"),
        (GgufBytes(raw_entries=(1 << 62).to_bytes(8, "little") + bytes(64), num_entries=1), "a string of"),
        (GgufBytes({"k": 1}, raw_entries=b"\x01" + bytes(7) + b"k" + bytes(64), num_entries=2), "'k' comes twice"),
        (GgufBytes(raw_entries=b"\x01" + bytes(7) + b"k" + b"\x63\0\0\0" + bytes(64), num_entries=1), "value type 99"),
        (GgufBytes({"general.alignment": 48}), "general.alignment is 48, expected a power of two"),
        (GgufBytes({"split.count": 3}), "is part 0 (from 0) of 3, but by its name it is part 0 of 1"),
        (GgufBytes({}, [float_tensor("x", 2), float_tensor("x", 2)]), "'x' comes twice"),
        (GgufBytes({}, [Tensor("x", (4,), 99, bytes(16))]), "unknown type 99"),
        (GgufBytes({}, [Tensor("x", (33,), Q8_0, bytes(68))]), "rows a multiple of 32"),
        (GgufBytes({}, [Tensor("x", (0, 4), F16, bytes(8))]), "sizes are positive"),
        (GgufBytes({}, [Tensor("x", (1, 1, 1, 1, 1), F16, bytes(8))]), "claims 5 dimensions"),
        (GgufBytes({}, [Tensor("x", ((1 << 63),) * 4, IQ2_XXS, bytes(8))]), "truncated: tensor 'x'"),
        (GgufBytes({}, [Tensor("x", (4,), F16, bytes(8), offset=(1 << 64) - 1)]), "truncated: tensor 'x'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path, wrong, message):
    assert message in refused(wrong.write(tmp_path))


def write_parts(folder: Path, num_parts: int = 3, **changes: object) -> list[str]:
    """One tensor a part; ``changes`` are metadata of the second part."""
    paths = []
    for part in range(num_parts):
        metadata = {"split.no": part, "split.count": num_parts, **({"general.name": "x"} if part == 0 else {})}
        metadata |= {key.replace("__", "."): value for key, value in changes.items()} if part == 1 else {}
        model = GgufBytes(metadata, [float_tensor(f"t{part}", 2 + part)])
        paths.append(model.write(folder, f"m-{part + 1:05}-of-{num_parts:05}.gguf"))
    return paths


def test_a_model_in_several_files_is_one(tmp_path):
    paths = write_parts(tmp_path)
    file = GgufFile.open(paths[0])
    assert file.metadata["general.name"] == "x"
    for part in range(3):
        assert file.tensors[f"t{part}"].shape == (2 + part,)
        assert file.tensors[f"t{part}"].data().view("<f4").tolist() == list(range(2 + part))
    identities = identify(ModelFiles(name="m", file_format="gguf", path=paths[0]))
    assert [identity.path for identity in identities] == paths


def test_a_part_that_is_missing_or_of_another_model_is_refused(tmp_path):
    paths = write_parts(tmp_path, split__no=2)
    assert f"{paths[1]} says that it is part 2 (from 0) of 3" in refused(paths[0])
    write_parts(tmp_path, split__count=2)
    assert f"{paths[1]} says that it is part 1 (from 0) of 2" in refused(paths[0])
    write_parts(tmp_path)
    assert "is part 2 (from 0) of 3, but by its name it is part 0" in refused(paths[2])
    os.unlink(paths[1])
    assert f"{paths[1]}" in refused(paths[0])
    for path in paths[::2]:
        os.rename(path, path.replace("m-", "a-" if path == paths[0] else "b-"))
    assert "a-00002-of-00003.gguf" in refused(paths[0].replace("m-", "a-"))


def test_a_whole_file_may_have_the_name_of_a_part(tmp_path):
    path = GgufBytes({"split.count": 1}, [float_tensor("x", 2)]).write(tmp_path, "m-00001-of-00002.gguf")
    assert list(GgufFile.open(path).tensors) == ["x"]
    assert len(identify(ModelFiles(name="m", file_format="gguf", path=path))) == 1


def test_what_is_no_file_is_refused(tmp_path):
    assert "No such file" in refused(str(tmp_path / "missing.gguf"))
    assert "not a regular file" in refused(str(tmp_path))
    assert "not a regular file" in refused("/dev/null")
    assert "null" in refused("a\0b")
