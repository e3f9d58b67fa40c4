"""The alerts and the dashboard: parsed by promtool, and of no figure that does not exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

import qlibplatform.observed
import training.live.hub  # noqa: F401 - registers its figures

FILES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
NAME = re.compile(r"\bqlibplatform_\w+")


@pytest.fixture
def exposed(client_of, db):
    """The names of all samples of a scrape."""
    qlibplatform.observed.QUERY_ERRORS.labels("Error")
    qlibplatform.observed.HTTP_SECONDS.labels("GET", "/", "200")
    text = client_of(None).get("/metrics").content.decode()
    sampled = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
    return sampled | {family.name for family in text_string_to_metric_families(text)}


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_every_figure_that_is_looked_at_exists(exposed, file):
    named = set(NAME.findall((FILES / file).read_text()))

    assert len(named) > 5
    assert named - exposed == set()


def test_every_figure_of_the_platform_is_on_the_dashboard_or_explained(exposed):
    shown = (FILES / "dashboard.json").read_text() + (FILES / "alerts.yml").read_text()
    families = {family.name for family in REGISTRY.collect()} | exposed
    base = {re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in families}
    unseen = {name for name in base if name.startswith("qlibplatform_") and name not in shown}

    assert unseen == {
        "qlibplatform_database_errors",
        "qlibplatform_scrape_database_seconds",
    }


def test_the_dashboard_has_a_query_in_every_panel():
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]

    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_is_tried_firing_and_not():
    groups = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    worlds = yaml.safe_load((FILES / "alerts_test.yml").read_text())["tests"]
    tried = {
        (test["alertname"], bool(test["exp_alerts"]))
        for world in worlds
        for test in world.get("alert_rule_test", [])
    }

    names = {rule["alert"] for group in groups for rule in group["rules"]}
    assert tried == {(name, fires) for name in names for fires in (True, False)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus)")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ],
)
def test_promtool_finds_no_fault(command):
    done = subprocess.run(
        ["promtool", *command], cwd=FILES, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
