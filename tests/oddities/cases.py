"""All oddities, in the order of the table."""

from oddities import frame_cases, geometry_cases, pixel_cases, series_cases, syntax_cases
from oddities.case import Case

CASES: tuple[Case, ...] = (
    *geometry_cases.CASES,
    *series_cases.CASES,
    *pixel_cases.CASES,
    *frame_cases.CASES,
    *syntax_cases.CASES,
)
