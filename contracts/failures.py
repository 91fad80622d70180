"""What can go wrong, named once for HTTP, AMQP, the log and the tests."""

from enum import StrEnum

import msgspec

NOT_READ = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not what was agreed; the last one for what is nested without end."""


class FailureCode(StrEnum):
    """A stable name for each failure; a client may branch on it, so a code is never renamed."""

    # What was sent
    MALFORMED_MESSAGE = "malformed_message"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    MALFORMED_OPTIONS = "malformed_options"
    OPTIONS_OUT_OF_RANGE = "options_out_of_range"
    MALFORMED_REQUEST = "malformed_request"
    UNSUPPORTED_CONTENT_TYPE = "unsupported_content_type"
    FORBIDDEN_PATH = "forbidden_path"
    TASK_ID_IN_USE = "task_id_in_use"
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    LENGTH_REQUIRED = "length_required"
    TOO_LARGE = "too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    HEADERS_STALLED = "headers_stalled"
    # Who sent it
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    # What was in it
    EMPTY_MEDIA = "empty_media"
    UNSUPPORTED_MEDIA = "unsupported_media"
    UNREADABLE_MEDIA = "unreadable_media"
    NO_VIDEO_STREAM = "no_video_stream"
    NO_FRAMES = "no_frames"
    TOO_MANY_PIXELS = "too_many_pixels"
    MEDIUM_MISSING = "medium_missing"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_HUNG = "decoder_hung"
    # How it went
    UPLOAD_ABORTED = "upload_aborted"
    UPLOAD_ABANDONED = "upload_abandoned"
    UPLOAD_STALLED = "upload_stalled"
    LENGTH_MISMATCH = "length_mismatch"
    UPLOAD_NOT_FOUND = "upload_not_found"
    UPLOAD_GONE = "upload_gone"
    UPLOAD_BUSY = "upload_busy"
    UPLOAD_COMPLETED = "upload_completed"
    UPLOAD_OFFSET_MISMATCH = "upload_offset_mismatch"
    UPLOAD_LENGTH_INCONSISTENT = "upload_length_inconsistent"
    CANCELLED = "cancelled"
    TASK_NOT_FOUND = "task_not_found"
    TASK_ENDED = "task_ended"
    TASK_ABANDONED = "task_abandoned"
    TASK_NOT_FAILED = "task_not_failed"
    MEDIA_NOT_FOUND = "media_not_found"
    MEDIA_BUSY = "media_busy"
    INFERENCE_FAILED = "inference_failed"
    DURATION_LIMIT = "duration_limit"
    POISON = "poison"
    DELIVERED_TOO_OFTEN = "delivered_too_often"
    # What it runs on
    ENGINE_UNAVAILABLE = "engine_unavailable"
    MODEL_MISSING = "model_missing"
    MODEL_CORRUPT = "model_corrupt"
    MODEL_NOT_A_DETECTOR = "model_not_a_detector"
    EDGE_STOPS = "edge_stops"
    BROKER_UNAVAILABLE = "broker_unavailable"
    STORAGE_FULL = "storage_full"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    IDENTITY_UNAVAILABLE = "identity_unavailable"
    NO_ANSWER = "no_answer"
    ANNOTATIONS_UNAVAILABLE = "annotations_unavailable"
    ANNOTATIONS_TIMEOUT = "annotations_timeout"
    ANNOTATIONS_REFUSED = "annotations_refused"
    TOO_MANY_REQUESTS = "too_many_requests"
    INTERNAL = "internal"

    @classmethod
    def _missing_(cls, value: object) -> "FailureCode | None":
        """What a newer process names that this one does not know is a failure all the same."""
        return cls.INTERNAL if isinstance(value, str) else None


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A failure as it travels: `code` for programs, `detail` for people."""

    code: FailureCode
    detail: str


class Failure(Exception):
    """A failure that somebody understood: it has a code, and a detail that names the value at fault."""

    def __init__(self, code: FailureCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def record(self) -> FailureRecord:
        """The failure as it travels."""
        return FailureRecord(code=self.code, detail=self.detail)
