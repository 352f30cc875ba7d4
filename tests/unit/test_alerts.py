"""The alert rules name what the service exports, and fire at a counter's first event."""

import re
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
        found = re.fullmatch(r'increase\((\w+)\{(\w+)=~?"([^"]+)"\}\[\w+\]\) > 0', expression)
        if found is None:
            continue
        name, label, wanted = found.groups()
        begun = {s.labels[label] for s in zeros if s.name == name}
        assert set(wanted.split("|")) <= begun, expression
        watched += 1
    assert watched >= 3
