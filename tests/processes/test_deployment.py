"""deploy/yeoul.service and the Dockerfile, as far as this machine can try them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import openai
import pytest
import yaml

from tests.running_server import YEOUL, RunningServer
from yeoul.config.fields import setting_fields

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "yeoul.service"
DOCKERFILE = ROOT / "Dockerfile"


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def container_tool() -> str | None:
    """Docker or Podman, where one answers."""
    for name in ("docker", "podman"):
        if (
            shutil.which(name)
            and subprocess.run([name, "info"], capture_output=True, timeout=60, check=False).returncode == 0
        ):
            return name
    return None


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path):
    copy = tmp_path / "yeoul.service"  # with a program that is there
    copy.write_text(UNIT.read_text().replace("/opt/yeoul/bin/yeoul", str(YEOUL)))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in found.stderr.splitlines() if "yeoul.service" in line] == []


def test_the_unit_starts_what_there_is():
    command = shlex.split(values("ExecStart")[0])
    assert command[:2] == ["/opt/yeoul/bin/yeoul", "serve"]
    flags = {word for word in command if word.startswith("--")} - {"--config"}
    assert flags <= {field.flag for field in setting_fields().values()}
    assert values("Type") == ["exec"]  # nobody tells systemd when it is ready
    assert values("RestartPreventExitStatus") == ["2"]
    drain = setting_fields()["drain_timeout_seconds"].default
    assert isinstance(drain, float)
    assert float(values("TimeoutStopSec")[0]) > drain + 2 * 5


def test_the_image_copies_what_is_there_and_runs_as_nobody_special():
    text = DOCKERFILE.read_text()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert copied
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    variables = set(re.findall(r"\b(YEOUL_\w+)=", text))
    assert variables <= {field.variable for field in setting_fields().values()}


def test_the_image_serves():
    tool = container_tool()
    if tool is None:
        pytest.skip("neither Docker nor Podman answers")
    subprocess.run([tool, "build", "-t", "yeoul-test", str(ROOT)], check=True, timeout=280)
    command = [tool, "run", "--rm", "--read-only", "--tmpfs", "/tmp", "yeoul-test", "--help"]
    assert b"Usage: yeoul serve" in subprocess.run(command, check=True, timeout=60, capture_output=True).stdout


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, for mounts of its own")
def test_a_pod_writes_only_where_the_manifest_lets_it():
    """Its volumes are folders in /mnt here; everything else is read-only, and there are no capabilities."""
    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "base" / "stateful-set.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    places = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert places == {"/cache", "/data", "/tmp"}
    volumes = "mount -t tmpfs none /mnt && mkdir /mnt/cache /mnt/data /mnt/tmp"
    reports = 'mount -t tmpfs none "${@: -1}"'  # which RunningServer puts elsewhere than in the cache, as its last argument
    inside = f'mount --make-rprivate / && {volumes} && {reports} && mount -o remount,bind,ro / && exec "$@"'
    can_do_nothing = ["setpriv", "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all"]
    environment = ["env", "-i", f"PATH={os.environ['PATH']}", "XDG_CACHE_HOME=/mnt/cache", "TMPDIR=/mnt/tmp"]
    server = RunningServer("--data-dir", "/mnt/data")
    server.command = ["unshare", "-m", "bash", "-c", inside, "pod", *can_do_nothing, *environment, *server.command]
    with server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            file = client.files.create(file=("lines.jsonl", b"{}\n" * 100_000), purpose="batch")
            kept = client.responses.create(model="fake", input="hi", max_output_tokens=9)
            os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGKILL)
            client.completions.create(model="fake", prompt="x", max_tokens=9)
            assert client.files.content(file.id).read().startswith(b"{}\n")
            assert client.responses.retrieve(kept.id).output == kept.output
        assert not re.search("Read-only|Permission denied|cannot be written|not kept|Traceback", server.log()), server.log()
