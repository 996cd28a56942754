"""docs/metrics.md has every metric that a server exposes, and no other; their names say their units."""

from __future__ import annotations

import re

from tests.exposed_metrics import ROOT, documented, families_of
from tests.unit.cli.test_topology import whole
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.messages.outputs import WorkersLost, WorkersReplaced
from yeoul.messages.topology import EngineReport

ROUTERS = ROOT / "docs" / "routers.md"


def exposition() -> str:
    """Of a server that has answered, refused, called, lost and replaced: what has labels has samples."""
    told: list[str] = []

    async def scene(server: FakeServer) -> None:
        assert (await server.complete()).status_code == 200
        server.client.report = EngineReport(clock=1.0, processes=whole().processes[1:], links=whole().links)
        server.client.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        server.client.emit(WorkersReplaced([], 1.5))
        assert (await server.complete()).status_code == 200
        told.append((await server.http.get("/metrics")).text)

    serve(scene)
    return told[0]


def test_the_page_has_every_metric_with_its_kind_and_labels_and_no_other():
    exposed = {name: one for name, one in families_of(exposition()).items() if not name.startswith("vllm:")}
    page = {one.name: one for one in documented()}
    assert sorted(page) == sorted(exposed)
    for name, one in exposed.items():
        assert page[name].kind == one.kind, name
        assert one.labels == page[name].labels, name
        assert one.text.endswith("."), name


def test_names_say_units_as_prometheus_asks():
    for one in documented():
        bare = one.name.removesuffix("_total")
        assert (bare != one.name) == (one.kind == "counter"), f"{one.name} is a {one.kind}"
        if one.unit in ("seconds", "bytes", "ratio"):
            assert bare.endswith(f"_{one.unit}"), one.name
        else:
            assert not re.search(r"_(seconds|bytes|ratio|ms|mb|percent)$", bare), one.name


def test_names_of_vllm_are_on_the_page_for_routers():
    text = ROUTERS.read_text()
    missing = [name for name in families_of(exposition()) if name.startswith("vllm:") and name[5:] not in text]
    assert not missing
