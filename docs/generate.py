"""Writes settings.md, metrics.md, errors.md and checks.md from the code: ``make docs``.

A test compares the committed pages with what this gives.
"""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from viscera import errors, metrics, supervise
from viscera.api.gather import RESTARTS, ROLE_UP
from viscera.config import Settings
from viscera.config_text import as_toml
from viscera.domain.jobs import JobState
from viscera.domain.results import FlagKind
from viscera.measure.ranges import volume_table
from viscera.models.manifest import PostprocessTable
from viscera.statuses import outward

_SETTINGS = """\
For the person who runs Viscera: every setting, its default and its bounds.

Written by `make docs`; do not edit. A file (`viscera.toml` in the working folder, else
`/etc/viscera/viscera.toml`, else `--config FILE`) comes first, then the environment goes over it:
`VISCERA_DICOM__PORT=104` is `port` of `[dicom]`; lists and tables are JSON there. An unknown name
in either is refused. `viscera config show` prints what is in force, `viscera config check` tries
it. Relative paths start at the working folder.
"""

_METRICS = """\
For the person who watches Viscera: what `/metrics` of `http.port` says.

Written by `make docs`; do not edit. Under `viscera serve` one page holds all roles' metrics, each
with a further label `role`, and `process` where a role is several processes: sum over it. No label
holds a UID, an AE title or a peer's name.
`deploy/prometheus/alerts.yml` has alerts on these names.
"""

_ERRORS = """\
For those who call Viscera, and for those who ask why it said no: every error by name.

Written by `make docs`; do not edit. gRPC clients find the name in `ErrorInfo.reason`, and a
`RetryInfo` exactly where *retry* says yes. A C-STORE answer has it in its error comment. Each
error without a row of its own outward takes that of its parent, named before it and less
indented. What to do about the errors of a job stands in [jobs.md](jobs.md).
"""

_CHECKS = """\
For those who must know why a result is flagged or withheld, and may judge whether that is right.

Written by `make docs`; do not edit. Right and left are compared for every model that knows both
organs of a pair (liver and spleen, kidneys, adrenals), unless its manifest says that its labels are
no organs (`[verdict] sides = false`). The other checks run on models whose manifest names the
organs of an abdomen (`[verdict] anchors`). What they find stands at the organ and in the verdict of
volumes.json, in the report, on the QC picture, and is counted by `viscera_organ_flags_total`.
Nothing is corrected.

A result is **withheld**, and no SEG or report is made, where fewer anchors than `min_anchors` were
found with a possible volume (a head, a leg), or where right and left are exchanged for every pair
of organs found, two pairs at least (a series stored mirrored, or organs that lie reversed).
"""

_FLAGS = {
    FlagKind.VOLUME_UNUSUAL: "Outside the usual range below. An organ cut off by the scan is not "
    "called too small.",
    FlagKind.VOLUME_IMPOSSIBLE: "Outside the possible range; it does not count as an anchor.",
    FlagKind.SIDE_CONTRADICTED: "Right and left of a pair are exchanged, or a kidney or adrenal "
    "lies across aorta and inferior vena cava.",
    FlagKind.MISPLACED: "More than 120 mm above or below where at least three other organs say "
    "that it should lie.",
    FlagKind.REMOVED: "Postprocessing took away a fifth or more of it, and at least 1 mL.",
}

_POSTPROCESS = """\
A model's manifest may ask for it; without the table the network's label map stands as it is. Pieces
are voxels of one organ that touch, at corners too. A piece is taken away or kept, never renamed,
and what was taken stands as `removed_ml`.
"""

# In words, because a pattern is no help to who sets a name.
_PATTERNS = {
    r"^[ -\[\]-~]{1,16}$": "1 to 16 characters of ASCII, no backslash",
    r"^[a-z0-9][a-z0-9_-]{0,31}$": "1 to 32 of a-z, 0-9, _ and -",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def pages() -> dict[str, str]:
    """Return every generated page by its file's name."""
    return {
        "settings.md": "\n".join(["# Settings", "", _SETTINGS, *_settings()]) + "\n",
        "metrics.md": "\n".join(["# Metrics", "", _METRICS, *_metrics()]) + "\n",
        "errors.md": "\n".join(["# Errors", "", _ERRORS, *_errors()]) + "\n",
        "checks.md": "\n".join(["# Checks of anatomy", "", _CHECKS, *_checks()]) + "\n",
    }


def _table(*columns: str) -> tuple[str, str]:
    return _row(*columns), "|" + "---|" * len(columns)


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Keep text from being read as a column's end or as HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;" if "`" not in text else "<")


def _settings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield from _section(f"[{name}]", name, _model_of(field))


def _section(title: str, name: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## `{title}`\n"
    yield f"{inspect.getdoc(model)}\n"
    yield from _table("setting", "default", "allowed", "meaning")
    schema = model.model_json_schema()["properties"]
    lists = {}
    for key, field in model.model_fields.items():
        if items := _items_of(field):
            lists[key] = items
        yield _row(f"`{key}`", _default(field), _allowed(schema[key]), field.description or "")
    yield ""
    for key, items in lists.items():
        yield from _section(f"[[{name}.{key}]]", f"{name}.{key}", items)


def _model_of(field: FieldInfo) -> type[BaseModel]:
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, BaseModel)
    return field.annotation


def _items_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return what a list of tables holds; None for another setting."""
    inner = next(iter(get_args(field.annotation)), None)
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    shown = as_toml(value)
    return "none" if shown is None else f"`{shown}`"


def _allowed(schema: Mapping[str, object]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])  # type: ignore[attr-defined]
    if "pattern" in schema:
        return _PATTERNS[str(schema["pattern"])]
    kind = {"boolean": "true, false", "array": "list"}.get(str(schema.get("type")), "")
    bounds = [f"{sign} {schema[key]:.12g}" for key, sign in _BOUNDS.items() if key in schema]
    return " and ".join(bounds) or kind


def _metrics() -> Iterator[str]:
    yield from _table("metric", "type", "labels", "meaning")
    wrappers = [m for m in vars(metrics.Metrics()).values() if isinstance(m, MetricWrapperBase)]
    for wrapper in wrappers:
        for family in wrapper.describe():
            suffix = "_total" if family.type == "counter" else ""
            # Where the client library keeps them; a sample would need values.
            labels = wrapper._labelnames
            yield _metric(family.name + suffix, family.type, labels, family.documentation)
    for gauge in (*metrics.job_families({}), metrics.disk_family({})):
        yield _metric(gauge.name, gauge.type, gauge._labelnames, gauge.documentation)
    yield _metric(ROLE_UP, "gauge", ("role",), "1 if the role answered this scrape (`serve`).")
    yield _metric(RESTARTS, "counter", ("role",), "How often the role had to be started again.")
    yield "\n## Labels\n"
    yield from _table("label", "values")
    for label, values in _labels().items():
        yield _row(label, values)


def _metric(name: str, kind: str, labels: tuple[str, ...], meaning: str) -> str:
    return _row(f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), meaning)


def _labels() -> dict[str, str]:
    def words(values: tuple[str, ...]) -> str:
        return ", ".join(f"`{value}`" for value in values)

    return {
        "`stage`": words(metrics.STAGES),
        "`engine`": "what ran the network; empty outside `segment`",
        "`outcome` of instances": words(metrics.INSTANCE_OUTCOMES),
        "`end`": words(metrics.ASSOCIATION_ENDS),
        "`file`": "`tls_certificate`, `tls_client_ca` of `[dicom]`",
        "`outcome` of deliveries": words(metrics.DELIVERY_OUTCOMES),
        "`outcome` of commitments": words(metrics.COMMITMENT_OUTCOMES),
        "`reason` of instances": "an error of [errors.md](errors.md); empty unless rejected",
        "`decision`": words(metrics.STACK_DECISIONS),
        "`reason` of stacks": "an error of [errors.md](errors.md); empty unless refused",
        "`modality`": "`CT`, `MR`",
        "`flag`": words(tuple(FlagKind)),
        "`folder`": words(metrics.DISKS),
        "`organ`": "the names of the model's labels",
        "`state`": words(tuple(JobState)),
        "`role`": words(supervise.ROLES),
        "`process`": "0, 1, ... where a role is several processes (`dicom.processes`)",
    }


def _errors() -> Iterator[str]:
    yield from _table("error", "gRPC", "DIMSE", "retry", "meaning")
    for error in _tree(errors.ServiceError):
        depth = len(error.__mro__) - len(errors.ServiceError.__mro__)
        row = outward(error())
        meaning = inspect.getdoc(error) or ""
        retry = "yes" if error.retry else "no"
        name = "· " * depth + f"`{error.__name__}`"
        yield _row(name, row.grpc.name, f"`0x{row.dimse:04X}`", retry, meaning)


def _tree(parent: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    """Yield `parent` and, in the order of the source, all below it."""
    yield parent
    for error in vars(errors).values():
        if inspect.isclass(error) and parent in error.__bases__:
            yield from _tree(error)


def _checks() -> Iterator[str]:
    yield "## Flags\n"
    yield from _table("flag", "meaning")
    yield from (_row(f"`{kind}`", _FLAGS[kind]) for kind in FlagKind)
    yield "\n## Volumes in mL\n"
    table = volume_table()
    yield from _table("organ", "usual", "because", "possible", "because")
    for organ, row in table["organs"].items():
        usual, possible = (f"{row[k][0]:g} to {row[k][1]:g}" for k in ("usual", "possible"))
        yield _row(organ, usual, row["usual_from"], possible, row["possible_from"])
    yield '\n"factor 5": five times beyond the usual range, for want of a published extreme.\n'
    yield from (f"- [{key}] {source}" for key, source in table["sources"].items())
    yield "\n## Postprocessing\n"
    yield _POSTPROCESS
    yield from _table("key of `[postprocess]`", "default", "meaning")
    for key, field in PostprocessTable.model_fields.items():
        default = "none" if field.default == {} else f"`{as_toml(field.default)}`"
        yield _row(f"`{key}`", default, field.description or "")


def main() -> None:
    """Write the pages beside this script."""
    for name, text in pages().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
