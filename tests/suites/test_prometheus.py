"""deploy/prometheus as Prometheus's own tool reads it, the alerts on series of numbers, and what a running server exposes.

``promtool`` comes from Debian's package where it is not installed; skipped where that cannot be had either.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.running_server import RunningServer

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "prometheus"
FILES = Path(__file__).parent / "prometheus"
DEPLOYED = ROOT / "deploy" / "prometheus"


def run(*command: str, folder: Path | None = None, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program, fetched if need be."""
    if (installed := shutil.which("promtool")) is not None:
        return installed
    program = BUILD / "usr" / "bin" / "promtool"
    if not program.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            pytest.skip("there is no promtool here, and no Debian to fetch its package prometheus from")
        BUILD.mkdir(parents=True, exist_ok=True)
        done = run("apt-get", "download", "prometheus", folder=BUILD)
        if done.returncode != 0:  # a fresh machine knows no packages yet
            run("apt-get", "update")
            done = run("apt-get", "download", "prometheus", folder=BUILD)
        packages = list(BUILD.glob("prometheus_*.deb"))
        if done.returncode != 0 or not packages:
            pytest.skip(f"Debian's registry does not give the package prometheus: {done.stderr[-300:]}")
        run("dpkg", "-x", str(packages[0]), str(BUILD))
    if not program.exists() or run(str(program), "--version").returncode != 0:
        pytest.skip("the promtool of Debian's package does not run here")
    return str(program)


def test_promtool_loads_the_scrape_config_and_the_rules(promtool):
    for kind, name in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        done = run(promtool, "check", kind, str(DEPLOYED / name))
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_not_before(promtool):
    done = run(promtool, "test", "rules", str(FILES / "alerts.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_reads_what_a_server_exposes(promtool):
    """It complains of colons, which vLLM's names and so ours have, and of names that are vLLM's."""
    with RunningServer() as server:
        httpx.post(f"{server.url}/v1/completions", json={"prompt": "hi", "max_tokens": 4}, timeout=30)
        text = httpx.get(f"{server.url}/metrics", timeout=30).text
    done = run(promtool, "check", "metrics", given=text)
    assert "error while linting" not in done.stderr
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("vllm:")]
    assert [line for line in complaints if "should not contain ':'" not in line] == []
