"""The vocabulary of the ``fake`` model: a token a byte, one BOS, one EOS; needs no file. The tokenizer holds one."""

from __future__ import annotations

from yeoul.errors import InvalidRequestError
from yeoul.model_files.tokenizer_source import FAKE_VOCAB_SIZE, TokenizerSource


class ByteVocabulary:
    """Ids 0 to 255 are bytes; BOS and EOS follow; the other ids up to ``num_tokens`` stand for nothing."""

    strips_leading_space = False

    def __init__(self, source: TokenizerSource) -> None:
        self.num_tokens = FAKE_VOCAB_SIZE
        self._special = {
            token_id: token
            for token_id, token in ((source.bos_token_id, source.bos_token), (source.eos_token_id, source.eos_token))
            if token_id is not None and token is not None
        }
        self.special_token_ids = frozenset(self._special)
        self.prefix = [source.bos_token_id] if source.add_bos_token and source.bos_token_id is not None else []
        self.suffix = [source.eos_token_id] if source.add_eos_token and source.eos_token_id is not None else []

    @property
    def added_tokens(self) -> dict[int, str]:
        """BOS and EOS."""
        return self._special

    def encode(self, text: str) -> list[int]:
        """The bytes of ``text``; the special tokens' names are text like any other."""
        try:
            return list(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                f"character {error.start} of the text is a lone surrogate; expected Unicode text", param="prompt"
            ) from error

    def find(self, token: str) -> int | None:
        """The id of BOS or EOS by name, or of a single byte."""
        for token_id, name in self._special.items():
            if name == token:
                return token_id
        data = token.encode("utf-8", "replace")
        return data[0] if len(data) == 1 else None

    def bytes_of(self, token_id: int) -> bytes:
        """The byte, the special token's name, or nothing."""
        return bytes([token_id]) if token_id < 256 else self._special.get(token_id, "").encode()
