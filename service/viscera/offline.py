"""Commands that need no service: `segment`, `model check`, `config check`."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from viscera import encode, models, segment, series, volume
from viscera.config import Settings
from viscera.domain.jobs import Choice, Plan
from viscera.domain.results import Verdict
from viscera.domain.sources import Origin, Submission, SubmissionState
from viscera.encode import ResultContext
from viscera.errors import InvalidRequest, ServiceError
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline, Report, job_without_store

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

Say = Callable[[str], None]
