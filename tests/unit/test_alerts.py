"""The alert rules name what the service exports, and fire at a counter's first event."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from viscera.metrics import Metrics

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
EXPRESSIONS = dict(
    re.findall(r"- alert: (\w+)\n(?: +#.*\n)* +expr: (.+)", RULES.read_text(encoding="utf-8"))
)


def _documented() -> set[str]:
    text = (RULES.parents[2] / "docs" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(viscera_\w+)`", text, re.MULTILINE))


@pytest.mark.parametrize("alert", EXPRESSIONS)
def test_every_metric_that_is_watched_exists(alert: str) -> None:
    named = set(re.findall(r"\bviscera_\w+", EXPRESSIONS[alert]))
    assert named <= _documented()
    assert named or alert == "VisceraDown"


def test_counters_whose_first_event_matters_begin_at_zero() -> None:
    page = generate_latest(Metrics().registry).decode()
    zeros = [
        sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.value == 0
    ]
    watched = 0
    for expression in EXPRESSIONS.values():
        found = re.match(r'increase\((\w+)\{(\w+)=~?"([^"]+)"\}\[\w+\]\) > 0', expression)
        if found is None:
            continue
        name, label, wanted = found.groups()
        begun = {s.labels[label] for s in zeros if s.name == name}
        assert set(wanted.split("|")) <= begun, expression
        watched += 1
    assert watched >= 3


def test_a_night_of_faults_raises_its_alerts() -> None:
    """Prometheus' own judge over made-up nights: what fires when, and what stays quiet."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    nights = Path(__file__).with_name("alert_nights.yml")
    done = subprocess.run(["promtool", "test", "rules", nights], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
