"""Viscera: a PACS pushes CT and MR series in, abdominal organs come back."""

from importlib.metadata import version

__version__ = version("viscera")
