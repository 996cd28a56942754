"""FillMarkers: the tokens with which a model of code is asked to fill a gap between two texts; knows no process and no API.

Which ones a model has is found in its vocabulary: a GGUF file names them by id, else they are known by their texts. The
order is that of each model's authors: the text before the gap first, or, for Mistral's, the text behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

# Before the gap, behind the gap, begin of what fills it. The last is empty where the text before the gap comes last.
_SPELLINGS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma, Granite 4
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),  # DeepSeek
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),  # CodeLlama
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
    ("[PREFIX]", "[SUFFIX]", ""),  # Codestral
)
# What stands before each file, and before the name of the project they are from.
_FILES = (("<|file_sep|>", "<|repo_name|>"), ("<file_sep>", "<repo_name>"), ("<filename>", "<reponame>"))
_DIVIDER = "\n\n--- snippet ---\n\n"
_ENDS = ("\u2581<EOT>", "<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|file_sep|>", "<|repo_name|>", "<file_sep>", "<reponame>")


class File(NamedTuple):
    """A text of the project that has the gap, and what the file is called that it is from."""

    name: str
    text: str


class FillMarkers(NamedTuple):
    """Ids of tokens. ``middle`` None: the text before the gap comes last. ``ends`` end what fills the gap.

    ``file`` stands before a file's name and text, ``project`` before all of them; None where the model has none.
    """

    prefix: int
    suffix: int
    middle: int | None
    ends: list[int]
    file: int | None = None
    project: int | None = None

    @classmethod
    def find(cls, find_token: Callable[[str], int | None], named: Mapping[str, int]) -> FillMarkers | None:
        """Those of a vocabulary; None where it has none.

        Args:
            find_token: the id of a token by its text.
            named: ids that a file gives by their use: ``prefix``, ``suffix`` and ``middle``, ``file`` and ``project``.
        """
        file, project = next(
            (found for found in (tuple(map(find_token, pair)) for pair in _FILES) if found[0] is not None), (None, None)
        )
        file, project = named.get("file", file), named.get("project", project)
        ends = [token_id for token_id in map(find_token, _ENDS) if token_id is not None]
        if {"prefix", "suffix", "middle"} <= named.keys():
            return cls(named["prefix"], named["suffix"], named["middle"], ends, file, project)
        for spelling in _SPELLINGS:
            prefix, suffix, middle = (find_token(token) if token else None for token in spelling)
            if prefix is not None and suffix is not None and (middle is not None or not spelling[2]):
                return cls(prefix, suffix, middle, ends, file, project)
        return None

    def frame(self, before: list[int], behind: list[int]) -> list[int]:
        """The prompt for the text between ``before`` and ``behind``."""
        if self.middle is None:
            return [self.suffix, *behind, self.prefix, *before]
        return [self.prefix, *before, self.suffix, *behind, self.middle]

    def beside(self, files: Sequence[File], encode: Callable[[str], list[int]]) -> list[int]:
        """What stands before the frame: other files, as Qwen's and StarCoder's authors write a project.

        Names that nobody knows are those that llama.cpp has for them. Where a model has no token for files, a line divides
        them.
        """
        if not files:
            return []
        written = [] if self.project is None or self.file is None else [self.project, *encode("myproject\n")]
        for name, text in files:
            written += encode(_DIVIDER) if self.file is None else [self.file, *encode(f"{name}\n")]
            written += encode(text)
        return written if self.file is None else [*written, self.file, *encode("filename\n")]
