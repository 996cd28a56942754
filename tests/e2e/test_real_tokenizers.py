# ruff: noqa: RUF001
"""Our tokenizer and detokenizer on the real models' files, against ``transformers`` on the same files.

The texts are what tokenizers differ on: scripts, emoji, control characters, runs of whitespace and digits, code, special
tokens inside a text, and random characters.
"""

from __future__ import annotations

import functools
import random
import time
from pathlib import Path

import pytest
from tokenizers import AddedToken, pre_tokenizers

from yeoul.config.settings import ModelSettings
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.resolve import resolve_model
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.text.chat_template import ChatTemplate
from yeoul.text.detokenizer import IncrementalDetokenizer
from yeoul.text.tokenizer import Tokenizer

MODELS = [None, pytest.param("gemma3-270m", marks=pytest.mark.oracle)]

TEXTS = [
    "",
    " ",
    "\n",
    "Hello, world!",
    " leading and trailing ",
    "  two  spaces  ",
    "a" + " " * 40 + "b",
    "\n\n\n\n\tx\r\n\r\n y",
    " \n \n  \n",
    "\t" * 35,
    "The year 1234567 and 3.14159, 10,000.50 and  1  22   333 ½ ² Ⅷ ١٢٣",
    "I'm you're we've they'll I'd don't IT'S CAN'T O'Neill's 's 'S don’t “quote” — dash …",
    "こんにちは世界。日本語のテキスト 你好,世界！ 안녕하세요 세계",
    "Привет, мир! مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก ᚠᛇᚻ᛫ᛒᛦᚦ",
    "𝓗𝓮𝓵𝓵𝓸 😀😃👨‍👩‍👧‍👦🏳️‍🌈👍🏽🇩🇪 mid 🎉 text",
    "Ünïcödé ñ ß ẞ ﬁ e\u0301 cafe\u0301 a\u0308\u0323 K Å",
    "zero\u200bwidth\u200djoin\ufeffbom \u00a0nbsp\u3000ideo\u2028ls\u2029ps\x85nel",
    "control \x00\x01\x02\x1b[31mred\x1b[0m\x7f \ufffd \uffff \U0010ffff",
    "def f(x):\n    return x ** 2  # comment\n\nclass A:\n\tpass\n",
    'for(int i=0;i<10;++i){printf("%d\\n",i);} <html><body><p>Hi</p></body></html> {"a": [1, {"b": null}]}',
    "https://example.com/a/b?c=d&e=f#g user@example.org C:\\Windows $x^2 + \\frac{a}{b} = \\sum_{i=0}^n i$",
    "---===***###@@@!!!???...,,,;;;:::((((((]]]]]]}}}}}}",
    "antidisestablishmentarianism camelCaseWords snake_case_words SCREAMING_SNAKE kebab-case",
    "<0x41> <0xFF> ĠĠHello Ċ <unused5> <table><tr>x</table> [multimodal]",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "a<|endoftext|>b <repo_name>x<file_sep> <|im_start|> <|im_end|>",
    "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
    "hello<eos> <pad> <unk> </s>",
    "x" * 300,
    "AAAAaaaaBBBBbbbb" * 5,
]
ALPHABETS = [
    "abcdefghij ABC  ", " \t\n\r  ", "0123456789 .,-", "éèüñßøåæœ ", "日本語中文字汉漢", "😀👍🏽🇩🇪👨‍👩‍👧",
    "'\"`!?.,;:-_()[]{}<>/\\|@#$%^&*+=~", "абвгд ЖЗИ", "\x00\x01\x1f\x7f\u200b\u00a0", "한국어 텍스트", "हिन्दी", "عربي",
]  # fmt: skip


def random_texts(num_texts: int) -> list[str]:
    """Half from short runs of one alphabet each, half from any characters at all; always the same ones."""
    generator = random.Random(2)
    texts = []
    for _ in range(num_texts // 2):
        runs = [generator.choice(ALPHABETS) for _ in range(generator.randint(1, 12))]
        texts.append("".join("".join(generator.choices(run, k=generator.randint(1, 12))) for run in runs))
        codes = [
            generator.randint(0, generator.choice([0x7F, 0x7FF, 0xFFFF, 0x10FFFF])) for _ in range(generator.randint(1, 40))
        ]
        texts.append("".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF))
    return texts


class RealModel:
    """One model's files, read by us and by ``transformers``."""

    def __init__(self, model: str | None) -> None:
        from transformers import AutoTokenizer

        files = resolve_model(ModelSettings(model=model))
        self.source = load_tokenizer_source(files, None)
        self.ours = Tokenizer.load(self.source)
        path = Path(files.path)
        self.theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        assert self.source.vocabulary is not None
        if self.source.vocabulary.pre == "smollm":
            # transformers overlooks the name of the pre-tokenizer in this file; the model's own tokenizer.json has it.
            cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            self.theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
        # Nor does it look for the whole tokens that stand for runs of spaces; the model's own tokenizer.json finds them.
        spaces = [token.replace(" ", "▁") for token in self.source.vocabulary.tokens if token and not token.strip(" ")]
        self.theirs.add_tokens([AddedToken(token, normalized=True) for token in spaces])


load_real_model = functools.cache(RealModel)


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model or "default")
def real(request: pytest.FixtureRequest) -> RealModel:
    return load_real_model(request.param)


def test_every_text_has_the_tokens_that_transformers_gives_it(real: RealModel):
    different = [text for text in [*TEXTS, *random_texts(1000)] if real.ours.encode(text) != real.theirs.encode(text)]
    assert not different


def test_every_text_comes_back_as_transformers_writes_it(real: RealModel):
    for text in [*TEXTS, *random_texts(400)]:
        ids = real.ours.encode(text)
        for skips in (True, False):
            expected = real.theirs.decode(ids, skip_special_tokens=skips, clean_up_tokenization_spaces=False)
            assert real.ours.decode(ids, skip_special_tokens=skips) == expected


def test_streamed_text_is_the_text_of_all_tokens(real: RealModel):
    generator = random.Random(3)
    for text in [*TEXTS, *random_texts(400)]:
        ids = real.ours.encode(text)
        border = generator.randint(0, len(ids))
        detokenizer = IncrementalDetokenizer(real.ours, ids[:border], SamplingParams())
        streamed = "".join(detokenizer.push([token_id]) for token_id in ids[border:]) + detokenizer.finish()
        assert (real.ours.decode(ids[:border]).removesuffix("\ufffd") + streamed).endswith(streamed)
        if "\ufffd" not in real.ours.decode(ids[:border]):
            assert real.ours.decode(ids[:border]) + streamed == real.ours.decode(ids)


def test_the_default_model_renders_its_chat_as_transformers_does():
    real = load_real_model(None)
    messages = [
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "?"},
    ]
    template = ChatTemplate.load(real.source)
    for conversation in (messages, messages[:1], [{"role": "system", "content": "Be brief."}, *messages]):
        for adds_prompt in (True, False):
            expected = real.theirs.apply_chat_template(conversation, add_generation_prompt=adds_prompt, tokenize=False)
            rendered = template.render(conversation, add_generation_prompt=adds_prompt)
            assert rendered == expected
            ids = real.theirs.apply_chat_template(conversation, add_generation_prompt=adds_prompt, return_dict=False)
            assert real.ours.encode(rendered, add_special_tokens=False) == ids


def test_the_default_models_tokenizer_is_built_in_under_300_milliseconds():
    source = load_tokenizer_source(resolve_model(ModelSettings()), None)
    durations = []
    for _ in range(3):
        start = time.process_time()
        Tokenizer.load(source)
        durations.append(time.process_time() - start)
    assert min(durations) < 0.3, durations
