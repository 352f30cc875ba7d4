"""Several roles' pages of metrics on one page, under a ``role`` label."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

ROLE_UP = "viscera_role_up"

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


def merge_pages(pages: Mapping[str, str | None]) -> str:
    """Return one page in Prometheus' text format.

    Parameters
    ----------
    pages
        By role: its page, or None where it did not answer.

    Returns
    -------
    str
        Every family once with its HELP and TYPE, every sample with its role, and
        ``viscera_role_up``: 0 for a role without a page, or with one that is no exposition.
    """
    families: dict[str, _Family] = {}
    up = _Family("1 if the role answered this scrape.", "gauge")
    for role, page in pages.items():
        parsed = None if page is None else _parse(page, role)
        up.samples.append(f'{ROLE_UP}{{role="{_escaped(role)}"}} {int(parsed is not None)}')
        for name, family in (parsed or {}).items():
            families.setdefault(name, _Family(family.help, family.type)).samples += family.samples
    families[ROLE_UP] = up
    return "".join(_rendered(name, family) for name, family in families.items())


def _parse(page: str, role: str) -> dict[str, _Family] | None:
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
            families.setdefault(name, _Family()).samples.append(_labelled(sample, role))
        elif line and not line.startswith("#"):
            return None
    return families


def _labelled(sample: re.Match[str], role: str) -> str:
    label = f'role="{_escaped(role)}"'
    labels = f"{label},{sample['labels']}" if sample["labels"] else label
    return f"{sample['name']}{{{labels}}}{sample['value']}"


def _rendered(name: str, family: _Family) -> str:
    head = f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n"
    return head + "".join(f"{sample}\n" for sample in family.samples)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
