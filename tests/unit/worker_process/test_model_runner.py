"""The model runner with a tiny real model: same tokens alone, in a crowd, in chunks, in any blocks, after a preemption."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.worker_process.fake_worker import Driver, fault_of, greedy, run_together, seeded
from tests.unit.worker_process.tiny_llama import WithoutCache, tiny_settings, tiny_worker, write_tiny_llama
from yeoul.config.settings import CacheSettings, ModelSettings
from yeoul.errors import ConfigError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.messages.outputs import TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, RequestResult, StepInput
from yeoul.model_files.description import ModelFiles
from yeoul.models.decoder import Decoder
from yeoul.worker_process import fingerprint
from yeoul.worker_process.cpu_device import CPUDevice
from yeoul.worker_process.model_runner import GPUModelRunner
from yeoul.worker_process.worker import Worker

PROMPT = [int(number) for number in np.random.default_rng(3).integers(0, 96, 37)]
BLOCKS = list(range(200, 230))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def oracle(files: ModelFiles) -> WithoutCache:
    return WithoutCache(files)


@pytest.fixture
def worker(files: ModelFiles) -> Worker:
    return tiny_worker(files)


def request(request_id: str = "a", prompt: list[int] = PROMPT, sampling: SamplingParams | None = None, **more: Any):
    return NewRequest(request_id=request_id, prompt_token_ids=prompt, sampling=sampling or greedy(), **more)


def computed(worker: Worker, driver: Driver, chunk: int = 10_000) -> list[RequestResult]:
    """Computes a prompt, and returns every result on the way."""
    results: list[RequestResult] = []
    while driver.num_computed < driver.num_known:
        part = driver.part(min(chunk, driver.num_known - driver.num_computed))
        results += worker.execute(
            StepInput(step_number=driver.num_computed, new_requests=driver.new_requests(), scheduled=[part])
        ).results
    return results


@pytest.mark.parametrize("chunk", [1, 3, 16, 10_000])
def test_greedy_tokens_are_those_of_the_model_without_a_cache(worker, oracle, chunk):
    assert Driver(worker, request(), BLOCKS).run(20, chunk) == oracle.greedy_tokens(PROMPT, 20)


MIXED = [
    greedy(),
    seeded(1),
    seeded(2, top_p=0.9),
    seeded(3, top_k=5, logprobs=2),
    greedy(repetition_penalty=1.3),
    seeded(4, frequency_penalty=0.7, min_p=0.01),
    seeded(5, logit_bias={7: 4.0}, min_tokens=4, stop_token_ids=[9]),
]


def test_a_request_gives_the_same_tokens_alone_and_in_a_crowd(files):
    requests = [request(f"r{index}", PROMPT[: 3 + 5 * index], sampling) for index, sampling in enumerate(MIXED)]
    alone = [Driver(tiny_worker(files), entry, BLOCKS).run(20) for entry in requests]
    blocks = np.random.default_rng(1).permutation(256).tolist()
    crowd_worker = tiny_worker(files)
    crowd = [Driver(crowd_worker, entry, blocks[index * 20 : index * 20 + 20]) for index, entry in enumerate(requests)]
    assert run_together(crowd, 20, chunk=7) == alone
    assert len({tuple(tokens) for tokens in alone}) == len(alone)


@pytest.mark.parametrize("sampling", MIXED[:6])
def test_a_preempted_request_goes_on_where_it_was(worker, sampling):
    expected = Driver(worker, request("first", sampling=sampling), BLOCKS).run(20)
    back = Driver(worker, request("back", sampling=sampling, output_token_ids=expected[:9]), list(range(30)))
    assert back.run(20, chunk=8) == expected


def test_a_prefix_that_another_request_left_in_the_cache_changes_nothing(worker, oracle):
    Driver(worker, request("first"), BLOCKS).run(1)
    second = Driver(worker, request("second", [*PROMPT[:24], 5, 6, 7]), [*BLOCKS[:6], *range(20)])
    second.num_computed = 24
    assert second.run(12) == oracle.greedy_tokens([*PROMPT[:24], 5, 6, 7], 12)


def test_choices_differ_and_the_first_is_the_only_one_of_one(worker):
    drivers = [
        Driver(worker, request(f"c{index}", sampling=seeded(8), choice_index=index), list(range(index * 16, index * 16 + 16)))
        for index in range(4)
    ]
    choices = run_together(drivers, 16)
    assert choices[0] == Driver(worker, request("one", sampling=seeded(8)), BLOCKS).run(16)
    assert len({tuple(choice) for choice in choices}) == 4


def expected_report(logprobs: torch.Tensor, token_id: int, num_likeliest: int) -> TokenLogprobs:
    best = logprobs.topk(num_likeliest)
    values = [float(logprobs[token_id]), *best.values.tolist()]
    return TokenLogprobs([token_id, *best.indices.tolist()], values, 1 + int((logprobs > logprobs[token_id]).sum()))


def assert_same_report(found: TokenLogprobs | None, expected: TokenLogprobs) -> None:
    assert found is not None
    assert (found.token_ids, found.rank) == (expected.token_ids, expected.rank)
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_logprobs_are_those_of_the_model(worker, oracle):
    driver = Driver(worker, request(sampling=seeded(6, logprobs=3)), BLOCKS)
    tokens = driver.run(8)
    logprobs = torch.log_softmax(oracle.logits(PROMPT + tokens), dim=-1)
    for place, (token_id, result) in enumerate(zip(tokens, driver.results, strict=True)):
        assert_same_report(result.logprobs[0], expected_report(logprobs[len(PROMPT) - 1 + place], token_id, 3))


def test_prompt_logprobs_come_once_with_the_first_token_whatever_the_chunks(files, oracle):
    logprobs = torch.log_softmax(oracle.logits(PROMPT), dim=-1)
    found = []
    for chunk in (5, 10_000):
        driver = Driver(tiny_worker(files), request(sampling=greedy(prompt_logprobs=2)), BLOCKS)
        driver.run(3, chunk)
        first, *others = driver.results
        assert first.prompt_logprobs[0] is None
        assert len(first.prompt_logprobs) == len(PROMPT)
        for place in range(1, len(PROMPT)):
            expected = expected_report(logprobs[place - 1], PROMPT[place], 2)
            assert_same_report(first.prompt_logprobs[place], expected)
        assert not any(result.prompt_logprobs for result in others)
        found.append(first.prompt_logprobs)
    assert found[0] == found[1]


def test_prompt_logprobs_are_not_computed_again_for_a_request_that_comes_back(worker):
    back = Driver(worker, request(sampling=greedy(prompt_logprobs=2), output_token_ids=[4, 5]), BLOCKS)
    back.run(4)
    assert not any(result.prompt_logprobs for result in back.results)


@pytest.mark.parametrize("kind", ["last", "mean"])
def test_an_embedding_is_the_pooled_state_of_length_1_whatever_the_chunks(files, oracle, kind):
    states = oracle.hidden_states(PROMPT).double()
    pooled = states[-1] if kind == "last" else states.mean(dim=0)
    expected = (pooled / pooled.norm()).float().numpy()
    found = []
    for chunk in (1, 7, 10_000):
        (result,) = computed(tiny_worker(files), Driver(None, request(pooling=kind), BLOCKS), chunk)
        assert result.token_ids == []
        assert result.embedding is not None
        np.testing.assert_allclose(np.frombuffer(result.embedding, dtype="<f4"), expected, atol=1e-5)
        found.append(result.embedding)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sampling": greedy(logit_bias={96: 1.0})}, "token 96 is not in the vocabulary of 96 tokens"),
        ({"sampling": greedy(prompt_logprobs=-2)}, "the prompt's log probabilities could not be computed"),
        ({"sampling": greedy(logprobs=-2)}, "the log probabilities could not be computed"),
        ({"pooling": "max"}, "pooling is 'max'; expected one of last, mean"),
        ({"prompt": [1, 2, 96]}, "token 96 is not in the vocabulary of 96 tokens"),
    ],
)
def test_a_bad_request_fails_alone_and_at_once(worker, oracle, bad, message):
    good, poor = Driver(worker, request("good"), BLOCKS), Driver(worker, request("bad", **bad), list(range(30)))
    step = StepInput(
        step_number=1,
        new_requests=[*poor.new_requests(), *good.new_requests()],
        scheduled=[poor.part(poor.num_known), good.part(len(PROMPT))],
    )
    results = worker.execute(step).results
    assert sorted(result.request_id for result in results) == ["bad", "good"]
    by_id = {result.request_id: result for result in results}
    assert message in fault_of(by_id["bad"])
    assert by_id["good"].token_ids == oracle.greedy_tokens(PROMPT, 1)


def test_many_more_rows_than_fit_in_the_memory_for_logits_at_once(worker, oracle, monkeypatch):
    monkeypatch.setattr(CPUDevice, "max_num_logits", 2 * 96)
    drivers = [
        Driver(worker, request(f"r{i}", PROMPT[i:], greedy(prompt_logprobs=0)), list(range(i * 12, i * 12 + 12)))
        for i in range(5)
    ]
    assert run_together(drivers, 3) == [oracle.greedy_tokens(PROMPT[i:], 3) for i in range(5)]
    assert [len(driver.results[0].prompt_logprobs) for driver in drivers] == [37, 36, 35, 34, 33]


@pytest.mark.parametrize(("num_rows", "sizes"), [(3, [3]), (4, [4]), (5, [2, 3]), (8, [4, 4]), (1, [1])])
def test_logits_that_need_several_passes_are_made_in_even_ones(files, monkeypatch, num_rows, sizes):
    monkeypatch.setattr(CPUDevice, "max_num_logits", 4 * 96)
    worker, found = tiny_worker(files), []
    compute = Decoder.compute_logits

    def watch(self, states):
        found.append(len(states))
        return compute(self, states)

    monkeypatch.setattr(Decoder, "compute_logits", watch)
    drivers = [Driver(worker, request(f"r{i}", PROMPT[i:]), list(range(i * 12, i * 12 + 12))) for i in range(num_rows)]
    run_together(drivers, 1)
    assert found == sizes


def test_a_new_cache_is_made_once_the_old_one_is_gone(files, monkeypatch):
    worker = tiny_worker(files, model=ModelSettings(dtype="bfloat16", device="cpu"))
    old: list[weakref.ref[torch.UntypedStorage]] = []
    left: list[object] = []
    zeros = CPUDevice.zeros

    def watch(self, shape, dtype):
        left.extend(cache for cache in old if cache() is not None)
        blocks = zeros(self, shape, dtype)
        old.append(weakref.ref(blocks.untyped_storage()))
        return blocks

    monkeypatch.setattr(CPUDevice, "zeros", watch)
    for round_number in range(3):
        worker.allocate_cache(256)
        Driver(worker, request(f"r{round_number}"), BLOCKS, block_size=16).run(3)
    assert len(old) == 3
    assert left == []


class _NarrowDevice(CPUDevice):
    """Has to see the longest step before it says how much memory is left."""

    def cache_memory(self, run_longest_step):
        run_longest_step()
        return 1 << 18, 1 << 18


@pytest.mark.parametrize(("max_num_batched_tokens", "num_new"), [(100, 100), (10_000, 256)])
def test_a_device_that_must_know_is_shown_the_longest_step(files, monkeypatch, max_num_batched_tokens, num_new):
    settings = tiny_settings(files, max_model_len=256, max_num_batched_tokens=max_num_batched_tokens)
    runner, seen = GPUModelRunner(settings, _NarrowDevice(settings), GrammarCompiler(pytest.fail, 0)), []
    runner.load()
    forward = runner._model.forward

    def watch(token_ids, positions, metadata, kv_caches):
        seen.append((len(token_ids), metadata.max_context_length))
        return forward(token_ids, positions, metadata, kv_caches)

    monkeypatch.setattr(runner._model, "forward", watch)
    assert runner.max_num_blocks() == (1 << 18) // runner.block_bytes
    assert seen == [(num_new, 256)]
    assert runner._kv_caches == []


@pytest.mark.parametrize(
    ("dtype", "cache_dtype", "fits"),
    [("float16", "auto", False), ("bfloat16", "auto", True), ("bfloat16", "float16", False), ("float32", "auto", True)],
)
def test_a_model_whose_numbers_do_not_fit_float16_is_refused_at_the_start(tmp_path, dtype, cache_dtype, fits):
    files = write_tiny_llama(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.v_proj.weight"] *= 1e5
    save_file(tensors, tmp_path / "model.safetensors")
    cache = CacheSettings(block_size=16, kv_cache_dtype=cache_dtype)
    worker = Worker(tiny_settings(files, model=ModelSettings(dtype=dtype, device="cpu"), cache=cache))
    if fits:
        worker.load()
        return
    with pytest.raises(ConfigError, match=r"llama tiny makes numbers that are too large for float16 .* use --dtype bfloat16"):
        worker.load()


def test_float16_serves_a_model_that_fits_it(files, oracle):
    worker = tiny_worker(files, model=ModelSettings(dtype="float16", device="cpu"))
    assert Driver(worker, request(), BLOCKS, block_size=16).run(8) == oracle.greedy_tokens(PROMPT, 8)


@pytest.mark.parametrize(("dtype", "cache_dtype"), [("bfloat16", "auto"), ("float16", "auto"), ("float32", "bfloat16")])
@pytest.mark.parametrize("block_size", [1, 8, 24])
def test_a_block_that_is_not_whole_groups_of_keys_is_refused_at_the_start(files, dtype, cache_dtype, block_size):
    cache = CacheSettings(block_size=block_size, kv_cache_dtype=cache_dtype)
    settings = tiny_settings(files, model=ModelSettings(dtype=dtype, device="cpu"), cache=cache)
    with pytest.raises(ConfigError, match=f"--block-size is {block_size}; expected a multiple of 16"):
        Worker(settings).load()


def test_weights_that_are_rounded_are_said_to_be(files, caplog):
    description = msgspec.structs.replace(tiny_settings(files).description, weights_dtype="float16")
    for dtype, num_lines in (("auto", 1), ("float32", 0)):
        caplog.clear()
        model = msgspec.convert({"dtype": dtype, "device": "cpu"}, ModelSettings)
        Worker(tiny_settings(files, description=description, model=model)).load()
        assert sum("are float16 and become bfloat16" in record.getMessage() for record in caplog.records) == num_lines
        assert all(record.levelno == logging.WARNING for record in caplog.records if "become" in record.getMessage())


def test_ready_counts_the_bytes_of_a_block_in_the_cache_s_own_type(files):
    in_bfloat16 = CacheSettings(kv_cache_dtype="bfloat16")
    for cache, size in ((CacheSettings(), 4), (in_bfloat16, 2)):
        settings = tiny_settings(files, cache=cache)
        ready = Worker(settings).load()
        assert ready.block_bytes == 2 * 2 * 2 * 8 * 16 * size  # keys and values, layers, heads, head size, tokens
        assert ready.max_num_blocks == 8 * 16
        assert ready.device == "cpu float32, 1 thread"


def test_the_fingerprint_names_weights_and_number_type(files, tmp_path):
    def fingerprint_of(files: ModelFiles, dtype: Any = "float32") -> str:
        return Worker(tiny_settings(files, model=ModelSettings(dtype=dtype, device="cpu"))).load().model_fingerprint

    other = write_tiny_llama(tmp_path)
    assert fingerprint_of(files) == fingerprint_of(other)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert len({fingerprint_of(files), fingerprint_of(other), fingerprint_of(files, "bfloat16")}) == 3


def test_the_fingerprint_names_every_part_of_a_split_model(files, tmp_path):
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    split = ModelFiles(name="split", file_format="gguf", path=str(parts[0]))
    settings = msgspec.structs.replace(tiny_settings(files), files=split)
    names = set()
    for contents in ((b"one", b"two"), (b"one", b"2"), (b"1", b"two")):
        for part, content in zip(parts, contents, strict=True):
            part.write_bytes(content)
        names.add(fingerprint.model_fingerprint(settings, "float32"))
    assert len(names) == 3


def test_the_fingerprint_names_whatever_decides_the_last_bits(files, monkeypatch):
    def found() -> str:
        return Worker(tiny_settings(files)).load().model_fingerprint

    names = []
    for instruction_set in instruction_sets():
        with using(instruction_set):
            names.append(found())
            assert found() == names[-1]
    monkeypatch.setattr(fingerprint, "__version__", "another")
    names.append(found())
    assert len(set(names)) == len(instruction_sets()) + 1


def test_a_cache_that_the_machine_cannot_hold_is_refused_with_what_to_set(worker):
    with pytest.raises(ConfigError, match="cpu has no room for a KV cache of 1099511627776 blocks"):
        worker.allocate_cache(1 << 40)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(files):
    settings = msgspec.structs.replace(tiny_settings(files), model=ModelSettings(device="cuda"))
    with pytest.raises(ConfigError, match="sees 0; use --device cpu"):
        Worker(settings).load()
