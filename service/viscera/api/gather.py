"""Several roles' pages of metrics on one page, under a ``role`` label.

Where a role is several processes, each has a ``process`` label too: their sums are Prometheus'
to make, for a counter must fall to 0 only when its own process ends.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

ROLE_UP = "viscera_role_up"
RESTARTS = "viscera_role_restarts_total"

_COMMENT = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)")
_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"(?:\{(?P<labels>(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*)\})?"
    r"(?P<value> [^ ]+(?: -?[0-9]+)?)"
)


@dataclass(slots=True)
class _Family:
    help: str = ""
    type: str = "untyped"
    samples: list[str] = field(default_factory=list)


def merge_pages(pages: Mapping[str, str | None], restarts: Mapping[str, int] | None = None) -> str:
    """Return one page in Prometheus' text format.

    Parameters
    ----------
    pages
        By role, or by ``role/number`` where a role is several processes: its page, or None where
        it did not answer.
    restarts
        By the same names: how often each was started again.

    Returns
    -------
    str
        Every family once with its HELP and TYPE, every sample with its role and process, and
        ``viscera_role_up``: 0 for one without a page, or with one that is no exposition.
    """
    families: dict[str, _Family] = {}
    up = _Family("1 if the role answered this scrape.", "gauge")
    for name, page in pages.items():
        whose = _labels(name)
        parsed = None if page is None else _parse(page, whose)
        up.samples.append(f"{ROLE_UP}{{{whose}}} {int(parsed is not None)}")
        for title, family in (parsed or {}).items():
            families.setdefault(title, _Family(family.help, family.type)).samples += family.samples
    families[ROLE_UP] = up
    again = families[RESTARTS] = _Family("How often the role had to be started again.", "counter")
    for name, count in (restarts or {}).items():
        again.samples.append(f"{RESTARTS}{{{_labels(name)}}} {count}")
    return "".join(_rendered(name, family) for name, family in families.items())


def _labels(name: str) -> str:
    role, _, number = name.partition("/")
    return f'role="{_escaped(role)}"' + (f',process="{_escaped(number)}"' if number else "")


def _parse(page: str, whose: str) -> dict[str, _Family] | None:
    """Return the page's families, samples labelled; None where a line is no exposition."""
    families: dict[str, _Family] = {}
    current = ""
    for line in page.split("\n"):  # not splitlines: labels may hold what it splits at
        if comment := _COMMENT.fullmatch(line):
            word, current, text = comment.groups()
            family = families.setdefault(current, _Family())
            if word == "HELP":
                family.help = text
            else:
                family.type = text
        elif sample := _SAMPLE.fullmatch(line):
            name = current if sample["name"].startswith(current or " ") else sample["name"]
            families.setdefault(name, _Family()).samples.append(_labelled(sample, whose))
        elif line and not line.startswith("#"):
            return None
    return families


def _labelled(sample: re.Match[str], whose: str) -> str:
    labels = f"{whose},{sample['labels']}" if sample["labels"] else whose
    return f"{sample['name']}{{{labels}}}{sample['value']}"


def _rendered(name: str, family: _Family) -> str:
    head = f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n"
    return head + "".join(f"{sample}\n" for sample in family.samples)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
