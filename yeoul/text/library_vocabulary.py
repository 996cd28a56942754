"""A vocabulary that the tokenizers library runs, from a tokenizer.json or from GGUF arrays. The tokenizer holds one."""

from __future__ import annotations

import json
import logging

import tokenizers

from yeoul.errors import InvalidRequestError, ModelFileError
from yeoul.model_files.tokenizer_source import AddedToken, TokenizerSource
from yeoul.text.gguf_tokenizer import adds_bos_by_default, build_gguf_tokenizer
from yeoul.text.token_bytes import TokenSpelling, spelling_of_decoder

logger = logging.getLogger(__name__)

_MAX_NUM_TOKENS = 1 << 32  # the library's ids are 32 bits wide
_RARE_TEXT = "a \u0378\U0010fffd\n"  # characters that no vocabulary has


class LibraryVocabulary:
    """The library's tokenizer, with its own decoding, truncation and padding left aside.

    ``prefix`` and ``suffix`` are the ids that the files want around a prompt: usually a BOS, or nothing.
    """

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        spelling: TokenSpelling,
        prefix: list[int],
        suffix: list[int],
        special_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        self._library = library
        self._spelling = spelling
        added = library.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self.special_token_ids = special_token_ids.union(token_id for token_id, token in added.items() if token.special)
        self.num_tokens = _num_tokens(library, self._added)
        self.strips_leading_space = spelling.strips_leading_space
        self.prefix = prefix
        self.suffix = suffix

    @classmethod
    def load(cls, source: TokenizerSource) -> LibraryVocabulary:
        """Raises ModelFileError for files that are damaged or of a kind that is not known."""
        if source.kind == "gguf":
            library, spelling = build_gguf_tokenizer(source)
            _try_out(library, source.origin)
            adds_bos = source.add_bos_token
            if adds_bos is None and source.vocabulary is not None:
                adds_bos = adds_bos_by_default(source.vocabulary)
            prefix = _id_if(adds_bos, source.bos_token_id)
            return cls(library, spelling, prefix, _id_if(source.add_eos_token, source.eos_token_id))
        library, spelling = _read_tokenizer_json(source)
        special_token_ids = _add_tokens(library, source)
        prefix, suffix = _surroundings(library)
        if source.add_bos_token is not None:
            others = [token_id for token_id in prefix if token_id != source.bos_token_id]
            prefix = _id_if(source.add_bos_token, source.bos_token_id) + others
        if source.add_eos_token is not None:
            others = [token_id for token_id in suffix if token_id != source.eos_token_id]
            suffix = others + _id_if(source.add_eos_token, source.eos_token_id)
        return cls(library, spelling, prefix, suffix, special_token_ids)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, special tokens in it found whole; the interpreter's lock is free meanwhile."""
        try:
            # Of the library's ways to encode, only this one gives up the interpreter's lock and counts no offsets.
            ids: list[int] = self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids
        except TypeError as error:
            raise InvalidRequestError(
                "the text holds a lone surrogate (half of a UTF-16 pair); expected Unicode text", param="prompt"
            ) from error
        except BaseException as error:
            # Its pattern matching gives up, in a panic, on ten million spaces in a row and the like.
            if not _is_of_library(error):
                raise
            raise InvalidRequestError(f"the text cannot be tokenized: {error}", param="prompt") from None
        return ids

    def find(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it."""
        return self._library.token_to_id(token)

    @property
    def added_tokens(self) -> dict[int, str]:
        """The tokens that are found whole in a text, special ones and others."""
        return self._added

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id that no token has."""
        if (added := self._added.get(token_id)) is not None and self._spelling.added_tokens_are_text:
            return added.encode()
        token = self._library.id_to_token(token_id) if token_id < _MAX_NUM_TOKENS else None
        return b"" if token is None else self._spelling.bytes_of(token)


def _id_if(is_wanted: bool | None, token_id: int | None) -> list[int]:
    return [token_id] if is_wanted and token_id is not None else []


def _num_tokens(library: tokenizers.Tokenizer, added: dict[int, str]) -> int:
    return max([library.get_vocab_size(with_added_tokens=True), *(token_id + 1 for token_id in added)])


def _read_tokenizer_json(source: TokenizerSource) -> tuple[tokenizers.Tokenizer, TokenSpelling]:
    if source.tokenizer_json_path is None:
        raise ModelFileError(f"{source.origin} has no tokenizer.json; give the model's tokenizer with --tokenizer")
    try:
        library = tokenizers.Tokenizer.from_file(source.tokenizer_json_path)
        library.no_truncation()
        library.no_padding()
        decoder = None if library.decoder is None else json.loads(library.decoder.__getstate__())
    except BaseException as error:
        if not _is_of_library(error):
            raise
        raise ModelFileError(f"{source.tokenizer_json_path} is no tokenizer that can be read: {error}") from None
    _try_out(library, source.tokenizer_json_path)
    return library, spelling_of_decoder(decoder)


def _add_tokens(library: tokenizers.Tokenizer, source: TokenizerSource) -> frozenset[int]:
    """Adds what stands beside tokenizer.json, as ``transformers`` does; the ids of those that are special.

    Where both have a token, tokenizer.json's id counts, and the log tells that they differ.

    Raises:
        ModelFileError: a new token would not get the id that the model knows it by.
    """
    tokens = sorted((token for token in source.added_tokens if token.content), key=lambda token: token.id)
    before = {token.content: library.token_to_id(token.content) for token in tokens}
    known = library.get_added_tokens_decoder()
    added = {token: _library_token(token) for token in tokens}
    # In one go, and only what is new: the library builds its index of added tokens anew each time.
    library.add_tokens([new for token, new in added.items() if repr(known.get(token.id)) != repr(new)])
    special = {token_id for token_id, token in known.items() if token.special}  # and they stay it, whatever stands beside
    for token in tokens:
        token_id = library.token_to_id(token.content)
        if token_id != token.id and before[token.content] is None:
            raise ModelFileError(
                f"{source.origin} adds the token {token.content!r} with the id {token.id}, but behind the tokens of "
                f"tokenizer.json it gets {token_id}; fetch the model again, or give another tokenizer with --tokenizer"
            )
        if token_id != token.id:
            logger.warning(
                "%s: the token %r is %d in tokenizer.json and %d beside it; %d is taken",
                *(source.origin, token.content, token_id, token.id, token_id),
            )
        if token.special and token_id is not None:
            special.add(token_id)
    return frozenset(special)


def _library_token(token: AddedToken) -> tokenizers.AddedToken:
    flags = {name: getattr(token, name) for name in ("special", "single_word", "lstrip", "rstrip")}
    normalized = not token.special if token.normalized is None else token.normalized
    return tokenizers.AddedToken(token.content, normalized=normalized, **flags)


def _try_out(library: tokenizers.Tokenizer, origin: str) -> None:
    """Raises ModelFileError for a tokenizer that fails on some text, such as one whose unknown token is missing."""
    try:
        library.encode(_RARE_TEXT, add_special_tokens=True)
    except BaseException as error:
        if not _is_of_library(error):
            raise
        raise ModelFileError(f"the tokenizer in {origin} cannot encode every text: {error}") from None


def _is_of_library(error: BaseException) -> bool:
    """It raises bare Exceptions; a panic of it comes as a BaseException of a class that cannot be imported."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _surroundings(library: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer's post-processor puts before and after a text."""
    bare: list[int] = library.encode("a", add_special_tokens=False).ids
    framed: list[int] = library.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    return framed, []
