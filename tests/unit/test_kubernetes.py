"""The manifests in ``deploy/kubernetes`` say what the server really has: flags, routes, ports, metrics, times, labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exposed_metrics import ROOT, documented
from yeoul.config.build import build_settings
from yeoul.config.fields import setting_fields
from yeoul.config.kv_events import read_kv_events

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
ROUTES = {"/ready", "/live", "/metrics"}
SETTINGS = FOLDER / "base" / "yeoul.yaml"
OURS = {"app.kubernetes.io/name": "yeoul"}


def objects(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def found(kind: str, name: str = "yeoul", folder: str = "base") -> dict[str, Any]:
    """The one object of this kind and name."""
    everything = [one for path in (FOLDER / folder).glob("*.yaml") for one in objects(path)]
    (one,) = [one for one in everything if one.get("kind") == kind and one["metadata"]["name"] == name]
    return one


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = found("StatefulSet")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod) -> dict[str, Any]:
    (one,) = pod["containers"]
    result: dict[str, Any] = one
    return result


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "a-secret") for one in container["env"]}


@pytest.fixture
def settings(container):
    """As the server in the pod has them."""
    environment = {name: value for name, value in variables(container).items() if name.startswith("YEOUL_")}
    assert set(environment) <= {field.variable for field in setting_fields().values()}
    return build_settings({"host": "0.0.0.0"}, str(SETTINGS), environment)  # the image says the host


def ports_of(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_is_yaml_and_its_kustomization_takes_it(path):
    assert objects(path)
    kustomization = yaml.safe_load((path.parent / "kustomization.yaml").read_text())
    named = [*kustomization.get("resources", ()), *(patch["path"] for patch in kustomization.get("patches", ()))]
    named += [file for one in kustomization.get("configMapGenerator", ()) for file in one["files"]]
    assert path.name in {*named, "kustomization.yaml"}
    for name in [*named, *kustomization.get("components", ())]:
        assert (path.parent / name).exists()


def test_the_server_takes_what_the_pod_gives_it(container, settings):
    assert container["args"] == ["--config", "/etc/yeoul/yeoul.yaml"]
    assert settings.store.data_dir == "/data"
    assert settings.server.port == ports_of(container)["http"]
    assert settings.server.api_key == ["a-secret"]


def test_kv_events_go_out_at_the_ports_and_in_the_name_of_the_pod(container, settings):
    config = read_kv_events(settings.cache.kv_events_config)
    assert config is not None
    ports = ports_of(container)
    assert config.endpoints == [f"tcp://*:{ports['kv-events']}", f"tcp://*:{ports['kv-replay']}"]
    assert config.topic == f"kv@$(POD_IP):{ports['http']}@{settings.server.served_model_name[0]}"
    assert list(variables(container)).index("POD_IP") < list(variables(container)).index("YEOUL_KV_EVENTS_CONFIG")


def test_probes_ask_routes_that_there_are_and_a_healing_server_is_left_alone(container):
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/ready", "readiness": "/ready", "liveness": "/live",
    }  # fmt: skip
    assert {probe["port"] for probe in probes.values()} == {"http"}
    routes = (ROOT / "yeoul" / "web_process" / "operations").glob("*.py")
    text = "".join(path.read_text() for path in routes)
    assert all(f'"{path}"' in text for path in ROUTES)


def test_a_pod_has_time_to_drain_and_is_seen_to_do_so_while_it_takes_requests(pod, container, settings):
    times, probe = settings.time, container["readinessProbe"]
    num_children = 2  # one after the other: EngineCore's workers, EngineCore
    needed = times.drain_delay_seconds + times.drain_timeout_seconds + num_children * times.stop_timeout_seconds
    assert pod["terminationGracePeriodSeconds"] >= needed + 5
    assert probe["periodSeconds"] * probe["failureThreshold"] < times.drain_delay_seconds


def test_the_pod_may_do_nothing_that_it_need_not(pod, container):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    (user,) = re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["automountServiceAccountToken"] is False
    volumes = {one["name"] for one in pod["volumes"]} | {"state"}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert "XDG_CACHE_HOME=/cache" in (ROOT / "Dockerfile").read_text()


def test_all_select_the_same_pods():
    assert found("StatefulSet")["spec"]["template"]["metadata"]["labels"] == OURS
    assert found("StatefulSet")["spec"]["selector"]["matchLabels"] == OURS
    assert found("StatefulSet")["spec"]["serviceName"] == found("Service", "yeoul-pods")["metadata"]["name"]
    assert found("Service")["spec"]["selector"] == found("Service", "yeoul-pods")["spec"]["selector"] == OURS
    for kind, folder in (("PodDisruptionBudget", "base"), ("PodMonitor", "monitoring"), ("InferencePool", "inference-pool")):
        assert found(kind, folder=folder)["spec"]["selector"]["matchLabels"] == OURS
    assert found("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == OURS


def test_services_policies_and_monitors_name_ports_that_there_are(container):
    ports = ports_of(container)
    for service in (found("Service"), found("Service", "yeoul-pods")):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    for rule in found("NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= set(ports)
    (endpoint,) = found("PodMonitor", folder="monitoring")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    (target,) = found("InferencePool", folder="inference-pool")["spec"]["targetPorts"]
    assert target["number"] == ports["http"]


def test_only_routers_read_events_and_nothing_else_is_open():
    rules = found("NetworkPolicy")["spec"]["ingress"]
    open_to_all = [port["port"] for rule in rules if "from" not in rule for port in rule["ports"]]
    assert open_to_all == ["http"]


def test_pods_are_counted_by_metrics_that_there_are():
    scaled = found("ScaledObject", folder="autoscaling")["spec"]
    assert scaled["scaleTargetRef"]["name"] == found("StatefulSet")["metadata"]["name"]
    gauges = {one.name for one in documented() if one.kind == "gauge"}
    queries = [trigger["metadata"]["query"] for trigger in scaled["triggers"]]
    names = [name for query in queries for name in re.findall(r"yeoul:\w+", query)]
    assert len(names) == len(queries) == 2
    assert set(names) <= gauges


def test_an_apply_leaves_the_number_of_pods_to_whoever_counts_them():
    assert found("StatefulSet")["spec"]["replicas"] == 2
    assert found("StatefulSet", folder="autoscaling")["spec"] == {"replicas": None}


def test_without_a_key_only_the_gateway_and_its_router_may_ask():
    patch = found("StatefulSet", folder="inference-pool")["spec"]["template"]["spec"]["containers"][0]
    assert patch["env"] == [{"name": "YEOUL_API_KEY", "$patch": "delete"}]
    for rule in found("NetworkPolicy", folder="inference-pool")["spec"]["ingress"]:
        assert rule["from"], "everybody could ask"


def test_llm_d_is_told_of_the_models_name_and_of_blocks_as_they_are(settings):
    (config,) = objects(FOLDER / "inference-pool" / "endpoint-picker.yaml")
    plugins = {plugin["type"]: plugin.get("parameters", {}) for plugin in config["plugins"]}
    assert plugins["token-producer"]["modelName"] == settings.server.served_model_name[0]
    blocks = plugins["precise-prefix-cache-producer"]["tokenProcessorConfig"]["blockSize"]
    assert blocks == settings.cache.block_size
    used = {plugin["pluginRef"] for profile in config["schedulingProfiles"] for plugin in profile["plugins"]}
    assert used <= set(plugins)
    assert json.dumps(config)
