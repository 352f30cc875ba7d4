import pytest
from pydantic import ValidationError
from series_builders import FACTS, SETTINGS, line, make_slices

from viscera.config import SeriesRule
from viscera.domain.sources import SeriesFacts
from viscera.series.assembly import Assembly, Ignored
from viscera.series.rules import choose
from viscera.series.stacks import build_stacks

VENOUS = SeriesFacts(
    study_uid="1.2.1",
    series_uid="1.2.2",
    sop_class_uid=FACTS.sop_class_uid,
    modality="CT",
    frame_of_reference_uid="1.2.3",
    description="ABDOMEN venous Doe",
    body_part="ABDOMEN",
)


def chosen(*rules, facts=VENOUS, slices=None, ignored=(), asked=""):
    stacks, refused = build_stacks(slices or make_slices(line(20)), facts, SETTINGS)
    assembly = Assembly(facts=facts, stacks=stacks, refused=refused, ignored=ignored)
    settings = SETTINGS.model_copy(update={"rules": tuple(SeriesRule(**rule) for rule in rules)})
    return choose(assembly, settings, "abdomen/1", asked)


def only(*rules, **how):
    (one,) = chosen(*rules, **how)
    return one


def test_without_rules_every_stack_is_segmented_with_the_default_model():
    one = only()
    assert (one.choice.what, one.choice.model, one.choice.frames) == ("segment", "abdomen/1", 20)
    assert one.stack is not None
    assert one.stack.facts == VENOUS


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"modality": ("CT", "MR")}, True),
        ({"modality": ("MR",)}, False),
        ({"description": "abdomen"}, True),
        ({"description": "^venous"}, False),
        ({"body_part": "^abd"}, True),
        ({"body_part": "HEAD|NECK"}, False),
        ({"min_slices": 20}, True),
        ({"min_slices": 21}, False),
        ({"max_slice_spacing_mm": 2.5}, True),
        ({"max_slice_spacing_mm": 2.4}, False),
        ({"modality": ("CT",), "description": "arterial"}, False),
    ],
)
def test_a_rule_matches_on_all_that_it_says(rule, matches):
    one = only({"name": "a", "model": "special", **rule})
    if matches:
        assert (one.choice.what, one.choice.model) == ("segment", "special")
        assert "rule a matches" in one.choice.because
    else:
        assert (one.choice.what, one.choice.reason) == ("refuse", "NoModelForSeries")
        assert one.stack is None


def test_the_first_rule_that_matches_decides():
    rules = (
        {"name": "heads", "body_part": "HEAD"},
        {"name": "none", "then": "ignore"},
        {"name": "all"},
    )
    one = only(*rules)
    assert (one.choice.what, one.stack) == ("ignore", None)
    assert "rule none matches" in one.choice.because


def test_every_part_of_a_series_gets_its_line():
    slices = [*make_slices(line(20)), *make_slices(line(3), rows=8, first_uid=100)]
    lines = chosen(slices=slices, ignored=(Ignored(frames=2, because="localiser"),))
    told = [(one.choice.what, one.choice.frames, one.choice.reason) for one in lines]
    assert told == [("segment", 20, ""), ("refuse", 3, "IncompleteSeries"), ("ignore", 2, "")]
    assert [one.stack is not None for one in lines] == [True, False, False]


def test_no_line_repeats_what_a_peer_wrote():
    for rules in ((), ({"name": "a"},), ({"name": "a", "modality": ("MR",)},)):
        assert "Doe" not in only(*rules).choice.because


def test_a_pattern_that_does_not_compile_is_refused_with_the_settings():
    with pytest.raises(ValidationError, match="not a regular expression"):
        SeriesRule(name="a", description="(abdomen")


@pytest.mark.parametrize("then", ["segment", "ignore"])
def test_what_a_client_asks_for_goes_over_the_rules(then):
    rule = {"name": "all", "model": "special", "then": then}
    one = only(rule, asked="wanted/2")
    assert (one.choice.what, one.choice.model) == ("segment", "wanted/2")
    assert one.stack is not None
    assert only({"name": "mr", "modality": ("MR",)}, asked="wanted/2").choice.model == "wanted/2"
