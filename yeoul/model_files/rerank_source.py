"""RerankSource: what a model's files say of how it judges a document; knows no tokenizer and no template engine.

A decoder judges by the probabilities of two words behind a prompt with the query and the document. Where its files say
neither, and it is none that is known, it is no reranker.
"""

from __future__ import annotations

import glob
import os

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.typed_fields import TypedFields, read_json_fields

LOGIT_SCORE = "*_LogitScore/config.json"
"""Where sentence-transformers keeps which tokens a causal model answers with."""

# https://huggingface.co/Qwen/Qwen3-Reranker-0.6B: nothing in the files of its first versions tells what it is.
_QWEN3 = "qwen3-reranker"
QWEN3_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class RerankSource(msgspec.Struct, frozen=True, kw_only=True):
    """``words``, or the ids of their tokens: what it answers for a document that fits, and for one that does not.

    ``template`` has ``{query}``, ``{document}`` and perhaps ``{instruction}``, or is Jinja; None: the chat template takes
    messages of the roles query and document.
    """

    origin: str
    template: str | None = None
    words: tuple[str, str] | None = None
    token_ids: tuple[int, int] | None = None


def find_rerank_source(files: ModelFiles) -> RerankSource | None:
    """What the files say, else what is known of a model of this name; None for what is no reranker.

    Raises:
        ModelFileError: a file is damaged.
    """
    found = None
    if files.file_format == "gguf":
        found = _of_gguf(files.path)
    elif files.file_format == "safetensors":
        found = _of_folder(files.path)
    if found is None and _QWEN3 in f"{files.name} {os.path.basename(files.path)}".lower():
        return RerankSource(origin="the model's name", template=QWEN3_TEMPLATE, words=("yes", "no"))
    return found


def _of_gguf(path: str) -> RerankSource | None:
    """As llama.cpp writes it: a template named ``rerank``, and the labels of the classes, that of the good ones first."""
    metadata = GgufFile.open(path).metadata
    template = TypedFields(path, metadata, prefix="tokenizer.").optional_text("chat_template.rerank")
    fields = TypedFields(path, metadata, prefix=f"{metadata.get('general.architecture', '')}.")
    labels = fields.items("classifier.output_labels", str)
    if template is None or labels is None or len(labels) != 2:
        return None
    return RerankSource(origin=os.path.basename(path), template=template, words=(labels[0], labels[1]))


def _of_folder(path: str) -> RerankSource | None:
    for place in sorted(glob.glob(os.path.join(glob.escape(path), LOGIT_SCORE))):
        fields = read_json_fields(place)
        good, bad = (None, None) if fields is None else (fields.get("true_token_id"), fields.get("false_token_id"))
        if good is None or bad is None:  # a score that is no comparison: a logit is not told by anybody
            continue
        if not isinstance(good, int) or not isinstance(bad, int):
            raise ModelFileError(f"{place}: true_token_id and false_token_id have to be numbers of tokens; fetch it again")
        return RerankSource(origin=os.path.relpath(place, path), token_ids=(good, bad))
    return None
