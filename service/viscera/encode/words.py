"""Results in plain words, the same in the report and on the picture."""

from typing import assert_never

from viscera.domain.results import Decision, OrganMeasurement, Presence, Verdict
from viscera.encode.context import ResultContext

_CUTS = {
    "array_edge": "the edge of the scan",
    "reconstruction_circle": "the edge of the reconstruction",
}


def presence_words(organ: OrganMeasurement) -> str:
    """Say what is known of one organ."""
    match organ.presence:
        case Presence.FOUND:
            return "Found."
        case Presence.FOUND_TRUNCATED:
            cuts = " and by ".join(_CUTS[cut] for cut in organ.truncated_by)
            return f"Found, cut off by {cuts}: the volume is a lower bound."
        case Presence.NOT_FOUND:
            return "Not found by the algorithm, which cannot tell whether it is absent."
        case Presence.OUTSIDE_FIELD_OF_VIEW:
            return "Not found; its usual place lies outside the scan."
        case Presence.NOT_SEGMENTED:
            return "Not looked for: the model does not know it."
        case _:
            assert_never(organ.presence)


def organ_words(organ: OrganMeasurement) -> str:
    """Say what is known of one organ, and what is wrong with it."""
    return " ".join((presence_words(organ), *(flag.text for flag in organ.flags)))


def verdict_words(verdict: Verdict) -> str:
    """Say what was decided, in one line without the reasons."""
    match verdict.decision:
        case Decision.DELIVER:
            return "No automatic check objected."
        case Decision.FLAG:
            return "Automatic checks ask for a closer look:"
        case Decision.WITHHOLD:
            return "Withheld by automatic checks:"
        case _:
            assert_never(verdict.decision)


def grade_words(context: ResultContext) -> str:
    """Say what the model is worth."""
    model = f"Model {context.model.full_name}, grade {context.model.grade}"
    return f"{context.warning}. {model}." if context.warning else f"{model}."


def result_lines(verdict: Verdict, context: ResultContext) -> tuple[str, ...]:
    """Return what stands on a result as a whole: grade, origin, verdict and its reasons."""
    return (
        grade_words(context),
        f"Made without human review by Viscera on engine {context.engine}; model sha256 "
        f"{context.model.digest}.",
        verdict_words(verdict),
        *verdict.reasons,
    )
