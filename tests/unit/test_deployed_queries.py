"""The dashboard and the rules in ``deploy/`` ask only for metrics and labels that exist, and name only pages that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exposed_metrics import ROOT, documented, series_of
from yeoul.config.fields import setting_fields

DASHBOARD = ROOT / "deploy" / "grafana" / "yeoul.json"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
ALERTS = ROOT / "tests" / "suites" / "prometheus" / "alerts.yml"
WORDS = frozenset(
    ("sum", "max", "min", "by", "rate", "increase", "deriv", "histogram_quantile", "label_values", "and", "or", "unless")
)
OF_TARGETS = frozenset({"instance", "job"})


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard_expressions() -> Iterator[str]:
    """Of every panel, variable and annotation."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query")
    yield from (one["expr"] for one in dashboard["annotations"]["list"])


def known_series() -> dict[str, frozenset[str]]:
    """What a query may name, with its labels."""
    found: dict[str, frozenset[str]] = {"up": OF_TARGETS}
    for one in documented():
        for series in series_of(one.name, one.kind):
            found[series] = one.labels | OF_TARGETS | ({"le"} if series.endswith("_bucket") else set())
    found |= {rule["record"]: OF_TARGETS for rule in rules() if "record" in rule}
    return found


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The series and the labels that an expression names."""
    text = re.sub(r'"[^"]*"', "", expression)
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"\{([^}]*)\}", text))))
    for group in re.findall(r"\bby \(([^)]*)\)", text):
        labels |= {label.strip() for label in group.split(",")}
    if values := re.match(r"label_values\(.*, (\w+)\)$", text):
        labels.add(values[1])
        text = text.replace(f", {values[1]})", ")")
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", text)
    return set(re.findall(r"[A-Za-z_][\w:]*", bare)) - WORDS, labels


@pytest.mark.parametrize(
    "expression", sorted({*dashboard_expressions(), *(rule["expr"] for rule in rules())}), ids=lambda text: text[:60]
)
def test_an_expression_asks_for_what_there_is(expression):
    series, labels = names_in(expression)
    known = known_series()
    assert series, "it asks for nothing"
    assert series <= known.keys(), f"no metric has this name: {sorted(series - known.keys())}"
    assert labels <= set().union(*(known[name] for name in series)), labels


def test_the_reader_of_expressions_sees_what_is_not_there():
    series, labels = names_in('histogram_quantile(0.9, sum by (le, x) (rate(yeoul:gone_bucket{a=~"b{"}[5m]))) / up')
    assert (series, labels) == ({"yeoul:gone_bucket", "up"}, {"le", "x", "a"})


def test_every_documented_metric_of_ours_is_asked_for_or_tells_of_settings():
    """What nobody looks at is not worth a name; those left out say what a server was started with."""
    asked = set().union(*(names_in(one)[0] for one in (*dashboard_expressions(), *(rule["expr"] for rule in rules()))))
    unasked = {
        one.name for one in documented() if one.name.startswith("yeoul:") and not series_of(one.name, one.kind) & asked
    }
    assert unasked == {
        *("yeoul:kv_cache_bytes", "yeoul:max_model_len_tokens", "yeoul:max_requests_running", "yeoul:recovery_seconds"),
        *("yeoul:request_inference_time_seconds", "yeoul:process_threads", "yeoul:process_started_time_seconds"),
        *("yeoul:link_fill_ratio", "yeoul:link_messages_total", "yeoul:link_bytes_total"),
    }


def test_panels_have_titles_and_do_not_lie_on_each_other():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        assert panel["title"]
        places |= own
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_alerts_have_all_that_whoever_is_woken_needs_and_a_test():
    tested = {
        one["alertname"]
        for test in yaml.safe_load(ALERTS.read_text())["tests"]
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    alerts = [rule for rule in rules() if "alert" in rule]
    assert tested == {alert["alert"] for alert in alerts}
    for alert in alerts:
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert alert["annotations"]["summary"]
        text = alert["annotations"]["description"]
        assert text.endswith(".")
        for page in re.findall(r"docs/[\w-]+\.md", text):
            assert Path(ROOT, page).exists(), page
        for flag in re.findall(r"--[a-z-]+", text):
            assert flag in {field.flag for field in setting_fields().values()}, flag


def test_the_scrape_config_names_the_rules_beside_it():
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    assert config["rule_files"] == [RULES.name]
    assert [one["job_name"] for one in config["scrape_configs"]] == ["yeoul"]
