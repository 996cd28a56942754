"""What the doctor says of a model's files, without a worker and without the network."""

from __future__ import annotations

import pytest

from tests.unit.cli.doctor.subjects import look, subject, worst
from yeoul.cli.doctor import model
from yeoul.model_files.describe import fake_description
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.file_identity import FileIdentity

MIB = 1 << 20


def meminfo(num_bytes: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: {64 << 20} kB\nMemAvailable: {num_bytes >> 10} kB\n"}


@pytest.fixture
def large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 MiB of weights; a block of its cache has 4 KiB, a whole context of 8,192 tokens 2 MiB."""
    monkeypatch.setattr(
        model, "find_files", lambda looked_at: ModelFiles(name="m", file_format="gguf", path=looked_at.settings.model.model)
    )
    monkeypatch.setattr(model, "_describe", lambda _: fake_description())
    identity = FileIdentity("/m.gguf", 1, 600 * MIB, 0, 0)
    for name in ("yeoul.worker_process.cache_memory.identify", "yeoul.cli.doctor.model.identify"):
        monkeypatch.setattr(name, lambda _: [identity])


def test_what_is_not_here_is_a_note(tmp_path):
    (finding,) = look(model, "files", subject(tmp_path, download_dir=str(tmp_path)))
    assert (finding.level, finding.advice) == (
        "note",
        "a start fetches it, or yeoul pull smollm2-135m-instruct; it has 98 MB",
    )
    assert look(model, "memory", subject(tmp_path, download_dir=str(tmp_path))) == []


def test_a_damaged_file_is_a_fault(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF and then nonsense")
    assert worst(look(model, "files", subject(tmp_path, model=str(path)))) == "fault"
    path.write_bytes(b"PK")
    (finding,) = look(model, "files", subject(tmp_path, model=str(path)))
    assert "is not a GGUF file" in finding.found
    assert worst(look(model, "files", subject(tmp_path, model=str(tmp_path / "gone.gguf")))) == "fault"


def test_the_fake_model_needs_nothing(tmp_path):
    assert worst(look(model, "files", subject(tmp_path, model="fake"))) == "ok"
    assert look(model, "memory", subject(tmp_path, model="fake")) == []


@pytest.mark.usefixtures("large_model")
@pytest.mark.parametrize(
    ("num_free", "level", "words"),
    [
        (500 * MIB, "fault", "0.6 GB of weights, and 0.5 GB of memory"),
        (4096 * MIB, "ok", "requests of 8,192 tokens at once"),
        (601 * MIB, "warning", "the model was made for 8,192"),
    ],
)
def test_what_fits_in_memory_is_told(tmp_path, num_free, level, words):
    (finding,) = look(model, "memory", subject(tmp_path, model="m", files=meminfo(num_free)))
    assert (finding.level, words in finding.found) == (level, True), finding


@pytest.mark.usefixtures("large_model")
def test_a_context_that_was_asked_for_and_does_not_fit_is_a_fault_with_the_number_that_does(tmp_path):
    (finding,) = look(model, "memory", subject(tmp_path, model="m", max_model_len="8192", files=meminfo(601 * MIB)))
    assert (finding.level, "or --max-model-len to at most" in finding.found) == ("fault", True)
    (finding,) = look(model, "memory", subject(tmp_path, model="m", max_model_len="99999", files=meminfo(4096 * MIB)))
    assert "this model has 8192 positions" in finding.found
