"""A small random model with room for an agent's long prompts: Qwen3's structure, template and way of writing calls.

Its weights are noise and its vocabulary is learned from this repository's documents, in seconds; what it says is forced.
"""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tests.unit.models.tiny_models import make_model

DOCUMENTS = Path(__file__).parents[2] / "docs"
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
SPECIAL_TOKENS = [END_OF_TEXT, "<|im_start|>", END_OF_TURN]
MARKERS = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
VOCABULARY_SIZE = 4096
NUM_POSITIONS = 65536
# What Qwen3's own does, in short: tools stand in the first message, results of tools in a user's.
TEMPLATE = """\
{%- macro text(content) -%}
  {%- if content is string %}{{ content }}{% elif content %}{% for part in content %}{{ part.text }}{% endfor %}{% endif -%}
{%- endmacro -%}
{%- set first_is_system = messages[0].role == 'system' -%}
{%- if tools %}{{ '<|im_start|>system\\n' }}
  {%- if first_is_system %}{{ text(messages[0].content) + '\\n\\n' }}{% endif -%}
  {{ '# Tools\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}
  {%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor -%}
  {{ '\\n</tools>\\n\\nFor each function call, return a json object within <tool_call></tool_call> XML tags:\\n' }}
  {{- '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif first_is_system %}{{ '<|im_start|>system\\n' + text(messages[0].content) + '<|im_end|>\\n' }}{% endif -%}
{%- for message in messages -%}
  {%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
    {{ '<|im_start|>' + message.role + '\\n' + text(message.content) + '<|im_end|>\\n' }}
  {%- elif message.role == 'assistant' -%}
    {{ '<|im_start|>assistant\\n' }}
    {%- if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif -%}
    {{ text(message.content) }}
    {%- for call in message.tool_calls or [] -%}
      {{ '' if loop.first and not message.content else '\\n' }}{{ '<tool_call>\\n{"name": "' + call.function.name }}
      {%- set arguments = call.function.arguments -%}
      {{ '", "arguments": ' }}{{ arguments if arguments is string else arguments | tojson }}{{ '}\\n</tool_call>' }}
    {%- endfor -%}
    {{ '<|im_end|>\\n' }}
  {%- elif message.role == 'tool' -%}
    {{ '<|im_start|>user' if loop.previtem.role != 'tool' else '' }}
    {{- '\\n<tool_response>\\n' + text(message.content) + '\\n</tool_response>' }}
    {{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


def write_small_model(folder: Path) -> None:
    """A Hugging Face folder, as ``yeoul serve`` takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(
        "qwen3",
        vocab_size=VOCABULARY_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=NUM_POSITIONS,
        tie_word_embeddings=True,
    )
    model.save_pretrained(folder)
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(MARKERS),
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((file.read_text() for file in sorted(DOCUMENTS.glob("*.md"))), trainer)
    tokenizer.add_tokens([tokenizers.AddedToken(marker, special=False, normalized=False) for marker in MARKERS])
    assert tokenizer.get_vocab_size() <= VOCABULARY_SIZE
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TURN, pad_token=END_OF_TEXT, chat_template=TEMPLATE
    )
    fast.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": SPECIAL_TOKENS.index(END_OF_TURN)}))
