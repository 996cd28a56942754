"""The manifests in ``deploy/kubernetes`` as Kubernetes's own tools read them: kustomize joins them, schemas hold them.

``kubectl`` has to be there; the schemas are from PyPI. What is an extension's (Prometheus, KEDA, Gateway API) has none there.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exposed_metrics import ROOT
from tests.python_packages import install_environment

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]
FOLDER = ROOT / "deploy" / "kubernetes"
REQUIREMENTS = Path(__file__).parent / "kubernetes" / "requirements.txt"
EXTENSIONS = {"PodMonitor", "ScaledObject", "InferencePool", "HTTPRoute"}


def built(name: str) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


@pytest.mark.parametrize("name", ["base", "everything"])
def test_what_kustomize_makes_is_valid(name, tmp_path):
    objects = built(name)
    assert {one["kind"] for one in objects} >= {"StatefulSet", "Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"}
    python = install_environment(REQUIREMENTS, "kubernetes")
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all([one for one in objects if one["kind"] not in EXTENSIONS]))
    command = [str(python.parent / "kubernetes-validate"), "--strict", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_settings_reach_the_pods_by_a_name_that_changes_with_them():
    objects = built("base")
    (settings,) = [one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"]
    (pods,) = [one for one in objects if one["kind"] == "StatefulSet"]
    volumes = pods["spec"]["template"]["spec"]["volumes"]
    assert [one["configMap"]["name"] for one in volumes if "configMap" in one] == [settings]
    assert settings != "yeoul-settings"


def test_behind_llm_d_there_is_no_key():
    (pods,) = [one for one in built("everything") if one["kind"] == "StatefulSet"]
    (container,) = pods["spec"]["template"]["spec"]["containers"]
    assert "YEOUL_API_KEY" not in {one["name"] for one in container["env"]}


def test_with_autoscaling_no_number_of_pods_is_applied():
    (pods,) = [one for one in built("everything") if one["kind"] == "StatefulSet"]
    assert "replicas" not in pods["spec"]
