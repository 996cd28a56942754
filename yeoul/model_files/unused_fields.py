"""What a model's files ask for and this version does not do, to be said in the log; knows no file format.

The tokenizer readers call it. ``clean_up_tokenization_spaces`` is not among them: an answer's text is what its tokens say,
and ``transformers`` has given it up for such tokenizers, too.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from yeoul.model_files.typed_fields import TypedFields

logger = logging.getLogger(__name__)

# By file: the fields that would change an answer, each with the values that ask for nothing.
GENERATION_CONFIG: Mapping[str, Collection[object]] = {
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "diversity_penalty": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "length_penalty": (1, 0),
    "max_length": (20,),
    "max_new_tokens": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "penalty_alpha": (0,),
    "renormalize_logits": (False,),
    "sequence_bias": ({},),
    "stop_strings": ([],),
    "suppress_tokens": ([],),
    "top_h": (),
    "typical_p": (1,),
    "watermarking_config": (),
}
TOKENIZER_CONFIG: Mapping[str, Collection[object]] = {"split_special_tokens": (False,)}
GGUF_SAMPLING: Mapping[str, Collection[object]] = {"sequence": ("",), "mirostat": (0,), "xtc_probability": (0,)}
GGUF_TOKENIZER: Mapping[str, Collection[object]] = {
    "add_sep_token": (False,),
    "precompiled_charsmap": ([],),
    "remove_extra_whitespaces": (False,),
    "suppress_tokens": ([],),
}


def warn_of_unused(fields: TypedFields, table: Mapping[str, Collection[object]]) -> None:
    """One line for all fields of ``table`` that ask for something."""
    asked = {key: fields.get(key) for key, nothing in table.items() if fields.get(key) not in (None, *nothing)}
    if asked:
        shown = ", ".join(f"{fields.prefix}{key}={str(value)[:40]}" for key, value in asked.items())
        logger.warning("%s asks for what is not done here: %s", fields.origin, shown)
