"""The tokenizer of a model: text to token ids and back; knows no file format and no process. AsyncLLM holds one.

Encoding is the tokenizers library's; decoding is by bytes (see ``yeoul.text.token_bytes``), so that the text of a whole
answer and the text that was streamed token by token are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from yeoul.errors import InvalidRequestError
from yeoul.model_files.tokenizer_source import TokenizerSource
from yeoul.text.byte_vocabulary import ByteVocabulary
from yeoul.text.fill_in import File, FillMarkers
from yeoul.text.library_vocabulary import LibraryVocabulary
from yeoul.text.token_bytes import TokenBytes


class Vocabulary(Protocol):
    """What a tokenizer needs of its vocabulary. ``prefix`` and ``suffix`` are the ids put around a prompt."""

    num_tokens: int
    special_token_ids: frozenset[int]
    strips_leading_space: bool
    prefix: list[int]
    suffix: list[int]

    @property
    def added_tokens(self) -> dict[int, str]:
        """The tokens that are found whole in a text, special ones and others."""

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, nothing around them. Raises InvalidRequestError for text that is not Unicode."""

    def find(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it."""

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id that no token has."""


class Tokenizer:
    """Text to token ids and back. All methods may be called from several threads.

    A model's embedding may have more rows than ``vocab_size`` (they are padding): such ids decode to nothing.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        bos_token_id: int | None,
        eos_token_ids: Sequence[int],
        fill_in_token_ids: Mapping[str, int] | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._bytes = TokenBytes(vocabulary.bytes_of)
        self._text_bytes = TokenBytes(lambda token_id: b"" if token_id in self.special_token_ids else self._bytes[token_id])
        self.bos_token_id = bos_token_id
        self.eos_token_ids = list(eos_token_ids)
        self.fill_markers = FillMarkers.find(vocabulary.find, fill_in_token_ids or {})

    @classmethod
    def load(cls, source: TokenizerSource) -> Tokenizer:
        """Builds the tokenizer that the model's files describe; tenths of a second for a large vocabulary.

        Raises:
            ModelFileError: the files are damaged, or of a kind that is not known.
        """
        vocabulary = ByteVocabulary(source) if source.kind == "bytes" else LibraryVocabulary.load(source)
        return cls(
            vocabulary,
            bos_token_id=source.bos_token_id,
            eos_token_ids=source.eos_token_ids,
            fill_in_token_ids=source.fill_in_token_ids,
        )

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id."""
        return self._vocabulary.num_tokens

    @property
    def special_token_ids(self) -> frozenset[int]:
        """The ids that decoding leaves out with ``skip_special_tokens``."""
        return self._vocabulary.special_token_ids

    @property
    def strips_leading_space(self) -> bool:
        """Whether a text's very first space is one that the tokenizer added."""
        return self._vocabulary.strips_leading_space

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The ids of ``text``; special tokens written in it become their ids.

        ``add_special_tokens`` puts around them what the model's files ask for, but never a second BOS before a text that
        begins with one. Long texts take their time without holding the interpreter's lock: call it in a thread.

        Raises:
            InvalidRequestError: the text holds a lone surrogate, which no encoding of Unicode can write.
        """
        token_ids = self._vocabulary.encode(text)
        if not add_special_tokens:
            return token_ids
        prefix, suffix = self._vocabulary.prefix, self._vocabulary.suffix
        if token_ids[: len(prefix)] != prefix:
            token_ids = prefix + token_ids
        return token_ids + suffix if suffix else token_ids

    def encode_gap(self, before: str | list[int], behind: str) -> list[int]:
        """The ids that ask for what stands between two texts, after a BOS where the model's prompts begin with one.

        Raises:
            InvalidRequestError: the model has no tokens for that; a text as for ``encode``.
        """
        if self.fill_markers is None:
            raise InvalidRequestError(
                "this model's vocabulary has no tokens for filling a gap between two texts: leave suffix out", param="suffix"
            )
        token_ids = self._vocabulary.encode(before) if isinstance(before, str) else before
        return self._vocabulary.prefix + self.fill_markers.frame(token_ids, self._vocabulary.encode(behind))

    def encode_gap_within(self, before: str, behind: str, files: Sequence[File], most: int) -> tuple[list[int], bool]:
        """As ``encode_gap``, behind other files, in ``most`` ids; and whether something was left out for that.

        The files' beginning goes first, then what is farthest from the gap; a quarter of the room is for what stands behind
        it.
        """
        if self.fill_markers is None:
            raise InvalidRequestError(
                "this model's vocabulary has no tokens for filling a gap between two texts: serve one of"
                " code that has, such as Qwen-coder, Granite, StarCoder or Codestral"
            )
        encode, prefix = self._vocabulary.encode, self._vocabulary.prefix
        first, last, beside = encode(before), encode(behind), self.fill_markers.beside(files, encode)
        room = max(0, most - len(prefix) - len(self.fill_markers.frame([], [])))
        is_cut = len(first) + len(last) + len(beside) > room
        last = last[: max(room // 4, room - len(first))]
        first = first[max(0, len(first) - (room - len(last))) :]
        beside = beside[max(0, len(beside) - (room - len(last) - len(first))) :]
        return [*prefix, *beside, *self.fill_markers.frame(first, last)], is_cut

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``token_ids``; bytes that are no UTF-8 become U+FFFD.

        Raises:
            InvalidRequestError: an id is negative.
        """
        if token_ids and min(token_ids) < 0:
            raise InvalidRequestError(
                f"token id {min(token_ids)} is negative; expected 0 to {self.vocab_size - 1}", param="tokens"
            )
        table = self.token_bytes_table(skip_special_tokens=skip_special_tokens)
        text = b"".join(map(table.__getitem__, token_ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.strips_leading_space else text

    @property
    def added_tokens(self) -> dict[int, str]:
        """The tokens that are found whole in a text, special ones and others, by id."""
        return self._vocabulary.added_tokens

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, special ones too; a token may be a part of a character."""
        return self._bytes[token_id]

    def token_text(self, token_id: int) -> str:
        """One token as text for people; a part of a character shows as U+FFFD."""
        return self._bytes[token_id].decode("utf-8", "replace")

    def token_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it (``<|im_end|>``), None if there is none."""
        return self._vocabulary.find(token)

    def token_bytes_table(self, *, skip_special_tokens: bool) -> TokenBytes:
        """The bytes of each token id, filled while it is read; of special tokens none where they are to be skipped."""
        return self._text_bytes if skip_special_tokens else self._bytes
