"""``/metrics`` of several web processes: what each counts is added, what all see is taken once, and no counter goes back."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.unit.web_process.fake_server import FakeServer, serve, until
from tests.unit.web_process.together.two_servers import of, serve_two, siblings
from yeoul.web_process.together.numbers import joining_of, read_families, write_families

DOCS = Path(__file__).parents[4] / "docs" / "metrics.md"


async def scrape(server: FakeServer) -> dict[str, float]:
    answer = await server.http.get("/metrics")
    assert answer.status_code == 200
    return {
        f"{sample.name}{sorted(sample.labels.items()) or ''}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_any_process_tells_what_all_of_them_have_counted():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        await one.complete(max_tokens=2)
        for _ in range(2):
            await other.complete(max_tokens=2)
        for server in (one, other):
            now = await scrape(server)
            assert now["yeoul:request_success_total[('finished_reason', 'length')]"] == 3
            assert now["yeoul:e2e_request_latency_seconds_count"] == 3
            assert now["yeoul:e2e_request_latency_seconds_bucket[('le', '+Inf')]"] == 3
            of_vllm = [value for name, value in now.items() if name.startswith("vllm:request_success_total")]
            assert sum(of_vllm) == 3
            assert now["yeoul:http_connections"] == 2
            assert {"Web_0", "Web_1"} <= set(re.findall(r"process_memory_bytes\[\('process', '(\w+)'\)", "".join(now)))
            assert {
                "process_cpu_seconds_total[('process', 'Web_0')]",
                "process_cpu_seconds_total[('process', 'Web_1')]",
            } <= set(now)
        assert now["yeoul:http_responses_total[('status', '200')]"] == 4  # this scrape has no status yet

    serve_two(scene)


def test_what_an_engine_tells_is_taken_once():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        for server in (one, other):
            await server.complete(max_tokens=5)
        alone = [server.engine.llm.statistics.total_steps for server in (one, other)]
        assert (await scrape(one))["yeoul:engine_steps_total"] == max(alone)

    serve_two(scene)


def test_what_a_dead_process_has_counted_stays_and_its_successor_goes_on_from_there():
    async def play(folder: str) -> None:
        one, other = siblings(2, folder)
        async with FakeServer(siblings=one) as first:
            async with FakeServer(siblings=other) as second:
                await first.complete(max_tokens=2)
                await second.complete(max_tokens=2)
                before = await scrape(first)
            del one.others[1]
            missing = await scrape(first)
            other.start = 1
            async with FakeServer(siblings=other) as successor:
                await successor.complete(max_tokens=2)
                after = await scrape(successor)
        for name, value in before.items():
            if name.partition("[")[0].endswith(("_total", "_count", "_bucket")) and "Web_1" not in name:
                assert missing[name] >= value, name
                assert after[name] >= missing[name], name
        assert after["yeoul:e2e_request_latency_seconds_count"] == 3

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(play(os.path.realpath(folder)), 20))


def test_what_was_counted_is_noted_without_being_asked_for():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        (numbers,) = (work for work in other.context.lasting if type(work).__name__ == "SharedNumbers")
        await numbers.resume()
        await other.complete(max_tokens=2)
        path = os.path.join(other.context.siblings.folder or "", "numbers.1")
        await until(lambda: os.path.exists(path) and b'reason="length"} 1.0' in Path(path).read_bytes())
        await numbers.suspend()

    serve_two(scene)


def test_what_cannot_be_noted_is_told_all_the_same():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        await one.complete()
        os.mkdir(os.path.join(of(one).folder or "", "numbers.0.new"))  # as where nothing is left on the disk
        assert (await one.http.get("/metrics")).status_code == 200
        assert (await other.http.get("/metrics")).status_code == 200

    serve_two(scene)


def test_prometheus_text_is_read_and_written_again_as_it_was():
    async def scene(server: FakeServer) -> None:
        await server.complete(max_tokens=2)
        text = (await server.http.get("/metrics")).content
        assert sorted(write_families(read_families(text)).splitlines()) == sorted(text.splitlines())

    serve(scene)


def test_the_page_of_metrics_says_how_each_is_joined():
    words = {"added": "added", "seen": "once", "largest": "once", "own": "once", "each": "each"}
    rows = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    table = {row[1].strip().strip("`"): (row[2].strip(), row[-2].strip()) for row in rows if len(row) >= 8}
    assert len(table) > 50
    for name, (kind, said) in table.items():
        joining = joining_of(name.removesuffix("_total"), kind)
        expected = "each" if name.startswith("yeoul:process_") and name != "yeoul:process_deaths_total" else words[joining]
        assert said == expected, name
