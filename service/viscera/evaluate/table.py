"""The report for the terminal."""

from collections.abc import Iterator, Mapping

from viscera.evaluate.intervals import LEVEL, Estimate
from viscera.evaluate.report import Report

_FEW = 20
"""Below it the percentile bootstrap covers less than it says."""


def table_lines(report: Report) -> Iterator[str]:
    """Yield a line for each organ, their mean, and what was not scored."""
    width = max(len("mean of organs"), *(len(one.organ) for one in report.organs), 0)
    nsd = f"NSD at {report.tolerance_mm:g} mm"
    yield f"{'':<{width}}  {'cases':>5}  {'Dice':<22}{nsd}"
    for one in report.organs:
        yield _row(one.organ, width, one.dice, one.nsd)
    if report.mean_dice and report.mean_nsd:
        yield _row("mean of organs", width, report.mean_dice, report.mean_nsd)
    yield ""
    yield _about_intervals(report)
    yield from _left_out(report)


def _row(name: str, width: int, dice: Estimate, nsd: Estimate) -> str:
    return f"{name:<{width}}  {dice.cases:>5}  {_number(dice):<22}{_number(nsd)}".rstrip()


def _number(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"


def _about_intervals(report: Report) -> str:
    if len(report.cases) < 2:
        return "One case: there is no interval."
    few = " Of so few cases it is too narrow." if len(report.cases) < _FEW else ""
    return f"In brackets: {LEVEL:.0%} interval of the mean, by resampling the cases.{few}"


def _left_out(report: Report) -> Iterator[str]:
    if report.not_scored:
        yield f"Not in any reference, hence not scored: {', '.join(report.not_scored)}."
    extra: dict[str, int] = {}
    for scores in report.cases.values():
        for one in scores:
            if one.dice is None:
                extra[one.organ] = extra.get(one.organ, 0) + 1
    if extra:
        yield f"Predicted in cases whose reference has none: {_counted(extra)}."
    if report.unnamed_predicted:
        told = _counted(report.unnamed_predicted)
        yield f"Predicted without a name that the references know: {told}."
    if report.unnamed_reference:
        told = _counted(report.unnamed_reference)
        yield f"In references without a name that the predictions know: {told}."
    if report.not_predicted:
        yield f"References without a prediction: {', '.join(report.not_predicted)}."
    if report.without_reference:
        yield f"Predictions without a reference: {', '.join(report.without_reference)}."


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in found.items())
