import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResultKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_KIND_UNSPECIFIED: _ClassVar[ResultKind]
    RESULT_KIND_SEG: _ClassVar[ResultKind]
    RESULT_KIND_SR: _ClassVar[ResultKind]
    RESULT_KIND_QC: _ClassVar[ResultKind]
    RESULT_KIND_VOLUMES: _ClassVar[ResultKind]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_PENDING: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_DONE: _ClassVar[JobState]
    JOB_STATE_REFUSED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_SUPERSEDED: _ClassVar[JobState]

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_DELIVER: _ClassVar[Decision]
    DECISION_FLAG: _ClassVar[Decision]
    DECISION_WITHHOLD: _ClassVar[Decision]

class Grade(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRADE_UNSPECIFIED: _ClassVar[Grade]
    GRADE_DEMONSTRATION: _ClassVar[Grade]
    GRADE_RESEARCH: _ClassVar[Grade]
    GRADE_VALIDATED: _ClassVar[Grade]
RESULT_KIND_UNSPECIFIED: ResultKind
RESULT_KIND_SEG: ResultKind
RESULT_KIND_SR: ResultKind
RESULT_KIND_QC: ResultKind
RESULT_KIND_VOLUMES: ResultKind
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_PENDING: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_DONE: JobState
JOB_STATE_REFUSED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_SUPERSEDED: JobState
DECISION_UNSPECIFIED: Decision
DECISION_DELIVER: Decision
DECISION_FLAG: Decision
DECISION_WITHHOLD: Decision
GRADE_UNSPECIFIED: Grade
GRADE_DEMONSTRATION: Grade
GRADE_RESEARCH: Grade
GRADE_VALIDATED: Grade

class SegmentSeriesRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: SeriesHeader
    chunk: InstanceChunk
    def __init__(self, header: _Optional[_Union[SeriesHeader, _Mapping]] = ..., chunk: _Optional[_Union[InstanceChunk, _Mapping]] = ...) -> None: ...

class SeriesHeader(_message.Message):
    __slots__ = ("model", "instances", "channels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    model: str
    instances: int
    channels: _containers.RepeatedCompositeFieldContainer[ChannelSeries]
    def __init__(self, model: _Optional[str] = ..., instances: _Optional[int] = ..., channels: _Optional[_Iterable[_Union[ChannelSeries, _Mapping]]] = ...) -> None: ...

class ChannelSeries(_message.Message):
    __slots__ = ("name", "series_uid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERIES_UID_FIELD_NUMBER: _ClassVar[int]
    name: str
    series_uid: str
    def __init__(self, name: _Optional[str] = ..., series_uid: _Optional[str] = ...) -> None: ...

class InstanceChunk(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class SegmentSeriesResponse(_message.Message):
    __slots__ = ("accepted", "stored", "complete", "planned", "progress", "chunk", "finished")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    stored: Stored
    complete: Complete
    planned: Planned
    progress: Progress
    chunk: ResultChunk
    finished: Job
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., stored: _Optional[_Union[Stored, _Mapping]] = ..., complete: _Optional[_Union[Complete, _Mapping]] = ..., planned: _Optional[_Union[Planned, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., chunk: _Optional[_Union[ResultChunk, _Mapping]] = ..., finished: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class SegmentByUidRequest(_message.Message):
    __slots__ = ("peer", "study_uid", "series_uid", "model")
    PEER_FIELD_NUMBER: _ClassVar[int]
    STUDY_UID_FIELD_NUMBER: _ClassVar[int]
    SERIES_UID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    peer: str
    study_uid: str
    series_uid: str
    model: str
    def __init__(self, peer: _Optional[str] = ..., study_uid: _Optional[str] = ..., series_uid: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class SegmentByUidResponse(_message.Message):
    __slots__ = ("accepted", "stored", "complete", "planned", "progress", "chunk", "finished")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    stored: Stored
    complete: Complete
    planned: Planned
    progress: Progress
    chunk: ResultChunk
    finished: Job
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., stored: _Optional[_Union[Stored, _Mapping]] = ..., complete: _Optional[_Union[Complete, _Mapping]] = ..., planned: _Optional[_Union[Planned, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., chunk: _Optional[_Union[ResultChunk, _Mapping]] = ..., finished: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Stored(_message.Message):
    __slots__ = ("instances", "size_bytes")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    instances: int
    size_bytes: int
    def __init__(self, instances: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Complete(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Planned(_message.Message):
    __slots__ = ("job_ids", "choices")
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    choices: _containers.RepeatedCompositeFieldContainer[Choice]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ..., choices: _Optional[_Iterable[_Union[Choice, _Mapping]]] = ...) -> None: ...

class Choice(_message.Message):
    __slots__ = ("what", "because", "frames", "model", "reason")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    what: str
    because: str
    frames: int
    model: str
    reason: str
    def __init__(self, what: _Optional[str] = ..., because: _Optional[str] = ..., frames: _Optional[int] = ..., model: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("job_id", "sequence", "at", "state", "stage", "progress", "message")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    sequence: int
    at: _timestamp_pb2.Timestamp
    state: JobState
    stage: str
    progress: float
    message: str
    def __init__(self, job_id: _Optional[str] = ..., sequence: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[JobState, str]] = ..., stage: _Optional[str] = ..., progress: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class ResultChunk(_message.Message):
    __slots__ = ("job_id", "info", "offset", "data", "last")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    info: ResultInfo
    offset: int
    data: bytes
    last: bool
    def __init__(self, job_id: _Optional[str] = ..., info: _Optional[_Union[ResultInfo, _Mapping]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class ResultInfo(_message.Message):
    __slots__ = ("kind", "size_bytes", "sha256", "media_type", "sop_class_uid", "sop_instance_uid")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SOP_CLASS_UID_FIELD_NUMBER: _ClassVar[int]
    SOP_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    kind: ResultKind
    size_bytes: int
    sha256: str
    media_type: str
    sop_class_uid: str
    sop_instance_uid: str
    def __init__(self, kind: _Optional[_Union[ResultKind, str]] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., media_type: _Optional[str] = ..., sop_class_uid: _Optional[str] = ..., sop_instance_uid: _Optional[str] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("decision", "reasons")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, decision: _Optional[_Union[Decision, str]] = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "submission_id", "state", "model", "study_uid", "series_uid", "submission_version", "parent_id", "frames", "attempts", "stage", "progress", "engine", "created_at", "finished_at", "error", "verdict", "results")
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STUDY_UID_FIELD_NUMBER: _ClassVar[int]
    SERIES_UID_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    submission_id: str
    state: JobState
    model: str
    study_uid: str
    series_uid: str
    submission_version: int
    parent_id: str
    frames: int
    attempts: int
    stage: str
    progress: float
    engine: str
    created_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    error: JobError
    verdict: Verdict
    results: _containers.RepeatedCompositeFieldContainer[ResultInfo]
    def __init__(self, id: _Optional[str] = ..., submission_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., model: _Optional[str] = ..., study_uid: _Optional[str] = ..., series_uid: _Optional[str] = ..., submission_version: _Optional[int] = ..., parent_id: _Optional[str] = ..., frames: _Optional[int] = ..., attempts: _Optional[int] = ..., stage: _Optional[str] = ..., progress: _Optional[float] = ..., engine: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ResultInfo, _Mapping]]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("states", "submission_id", "series_uid", "page_size", "page_token")
    STATES_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_ID_FIELD_NUMBER: _ClassVar[int]
    SERIES_UID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[JobState]
    submission_id: str
    series_uid: str
    page_size: int
    page_token: str
    def __init__(self, states: _Optional[_Iterable[_Union[JobState, str]]] = ..., submission_id: _Optional[str] = ..., series_uid: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "after_sequence")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_sequence: int
    def __init__(self, job_id: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("progress", "finished")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    finished: Job
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., finished: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class RetryJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class FetchResultRequest(_message.Message):
    __slots__ = ("job_id", "kind")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    kind: ResultKind
    def __init__(self, job_id: _Optional[str] = ..., kind: _Optional[_Union[ResultKind, str]] = ...) -> None: ...

class FetchResultResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: ResultChunk
    def __init__(self, chunk: _Optional[_Union[ResultChunk, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "grade", "digest", "modalities", "organs", "not_segmented", "spacing_mm", "intended_use", "licence", "channels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    ORGANS_FIELD_NUMBER: _ClassVar[int]
    NOT_SEGMENTED_FIELD_NUMBER: _ClassVar[int]
    SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    INTENDED_USE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    grade: Grade
    digest: str
    modalities: _containers.RepeatedScalarFieldContainer[str]
    organs: _containers.RepeatedCompositeFieldContainer[Organ]
    not_segmented: _containers.RepeatedCompositeFieldContainer[Organ]
    spacing_mm: _containers.RepeatedScalarFieldContainer[float]
    intended_use: str
    licence: str
    channels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., grade: _Optional[_Union[Grade, str]] = ..., digest: _Optional[str] = ..., modalities: _Optional[_Iterable[str]] = ..., organs: _Optional[_Iterable[_Union[Organ, _Mapping]]] = ..., not_segmented: _Optional[_Iterable[_Union[Organ, _Mapping]]] = ..., spacing_mm: _Optional[_Iterable[float]] = ..., intended_use: _Optional[str] = ..., licence: _Optional[str] = ..., channels: _Optional[_Iterable[str]] = ...) -> None: ...

class Organ(_message.Message):
    __slots__ = ("value", "name", "title", "type", "laterality")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LATERALITY_FIELD_NUMBER: _ClassVar[int]
    value: int
    name: str
    title: str
    type: Code
    laterality: Code
    def __init__(self, value: _Optional[int] = ..., name: _Optional[str] = ..., title: _Optional[str] = ..., type: _Optional[_Union[Code, _Mapping]] = ..., laterality: _Optional[_Union[Code, _Mapping]] = ...) -> None: ...

class Code(_message.Message):
    __slots__ = ("value", "scheme", "meaning")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    value: str
    scheme: str
    meaning: str
    def __init__(self, value: _Optional[str] = ..., scheme: _Optional[str] = ..., meaning: _Optional[str] = ...) -> None: ...
