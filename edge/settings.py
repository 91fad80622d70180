"""How an edge is configured: one field per setting, each with its unit and its bounds (the README's table is made of them)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from contracts.broker_nodes import check_nodes
from contracts.operator_port import ADDRESS_PATTERN
from contracts.settings import HTTP_PATTERN, read_settings, unread_variables

PREFIX = "EDGE_"
SHARED = frozenset({"amqp_url", "storage_dir", "annotations_url", "videos_dir", "images_dir"})
"""Names that every service reads without a prefix."""

CENTURY_S = 3_153_600_000
"""Long enough for ever; what is much longer leads to no date."""


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that may be set about an edge."""

    amqp_url: Annotated[
        str, Meta(min_length=1, description="the RabbitMQ to speak to; of a cluster every node, separated by commas")
    ] = "amqp://guest:guest@127.0.0.1:5672/"
    storage_dir: Annotated[str, Meta(min_length=1, description="folder shared by edges and consumers")] = "storage"

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes a free one")] = 8000
    metrics_address: Annotated[
        str,
        Meta(
            pattern=ADDRESS_PATTERN,
            description="`host:port` where `/metrics` is served to whoever asks; with auth off it is also at the edge's own",
        ),
    ] = ""
    keep_alive_s: Annotated[int, Meta(ge=1, le=3600, description="s an idle HTTP connection stays open")] = 30
    header_timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="s that the headers of a request may take to arrive; then 408")
    ] = 10.0
    header_bytes_max: Annotated[
        int, Meta(ge=1_024, le=1_048_576, description="bytes of the headers of a request; more get 431")
    ] = 65_536
    stop_timeout_s: Annotated[
        int, Meta(ge=1, le=3600, description="s that running requests may take after SIGTERM before they are cut")
    ] = 10
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="least level that is logged")
    ] = "info"

    auth: Annotated[
        str,
        Meta(pattern="^(off|jwt)$", description="who is let in; `off`: everybody, only on a loopback address"),
    ] = "off"
    jwt_key: Annotated[str, Meta(description="the key that tokens are signed with (HS256), 32 bytes or longer")] = ""
    jwt_jwks_url: Annotated[
        str, Meta(description="where the public keys are that tokens are signed with (RS256, ES256), in place of a key")
    ] = ""
    jwt_issuer: Annotated[str, Meta(description="the `iss` that a token must have; unset: any")] = ""
    jwt_audience: Annotated[str, Meta(description="the `aud` that a token must have; unset: any")] = ""
    jwt_scope: Annotated[str, Meta(description="the scope that a token must have; unset: none, else 403")] = ""
    seal_keys: Annotated[
        str,
        Meta(
            description="Fernet keys that tokens are sealed with, the newest first, by commas; "
            "unset: one is made in the storage",
        ),
    ] = ""

    broker_heartbeat_s: Annotated[int, Meta(ge=1, le=600, description="s between AMQP heartbeats")] = 10
    broker_connect_timeout_s: Annotated[float, Meta(gt=0, le=60, description="s to open one broker connection")] = 5.0
    broker_reconnect_s: Annotated[
        float, Meta(gt=0, le=60, description="s before a lost connection is opened again")
    ] = 0.5
    publish_timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="s to get one message confirmed, retries included; then 503")
    ] = 5.0
    publish_retry_s: Annotated[
        float, Meta(gt=0, le=10, description="s before a refused message is published again")
    ] = 0.1
    probe_timeout_s: Annotated[float, Meta(gt=0, le=60, description="s that each check of /health/ready may take")] = (
        2.0
    )

    stream_listeners_max: Annotated[
        int, Meta(ge=1, le=100_000, description="listeners on this edge at a time; one more gets 503")
    ] = 2_000
    listeners_per_client_max: Annotated[
        int,
        Meta(ge=1, le=100_000, description="listeners of one user, or address, on this edge; one more gets 429"),
    ] = 1_000
    stream_heartbeat_s: Annotated[float, Meta(gt=0, le=300, description="longest silence towards a listener, s")] = 15.0
    stream_send_bytes_max: Annotated[
        int, Meta(ge=1, le=16_777_216, description="bytes of waiting events joined into one send to a listener")
    ] = 65_536
    ring_events_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="recent events kept in memory for all listeners")
    ] = 10_000
    ring_bytes_max: Annotated[
        int, Meta(ge=1, le=4_294_967_296, description="bytes of recent events kept in memory for all listeners")
    ] = 8_388_608
    tasks_remembered_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="tasks whose last sequence is known, so that none is shown twice")
    ] = 10_000
    task_backlog_events_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="events of one task that wait for a synchronous answer")
    ] = 10_000

    log_prefetch: Annotated[int, Meta(ge=1, le=10_000, description="unread messages of the log on the way to us")] = 200
    log_head_timeout_s: Annotated[float, Meta(gt=0, le=60, description="s to learn where the log ends")] = 5.0
    log_readers_max: Annotated[
        int, Meta(ge=1, le=1_000, description="slow listeners that read the log at a time; others wait")
    ] = 8
    log_window_events: Annotated[
        int, Meta(ge=0, le=1_000_000, description="events read before a resumed place, to know what was shown")
    ] = 2_000
    log_window_tasks_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="tasks remembered per listener while it reads the log")
    ] = 256
    log_turn_prefetch: Annotated[
        int, Meta(ge=1, le=10_000, description="unread messages on the way to a log reader")
    ] = 50
    log_turn_events_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="events a log reader looks at between two sends")
    ] = 2_000
    log_turn_timeout_s: Annotated[float, Meta(gt=0, le=300, description="s a log reader may take for one send")] = 15.0
    log_lease_s: Annotated[
        float, Meta(gt=0, le=60, description="s a slow listener keeps a log reader before the next one may read")
    ] = 1.0

    presence_expiry_s: Annotated[
        float, Meta(gt=0, le=60, description="s after its last heartbeat that a consumer counts as gone")
    ] = 4.0
    presence_consumers_max: Annotated[int, Meta(ge=1, le=100_000, description="consumers kept in the table")] = 1_000
    dead_letter_retry_s: Annotated[
        float, Meta(gt=0, le=600, description="s before ending a dead-lettered task is tried again")
    ] = 5.0

    upload_bytes_max: Annotated[int, Meta(ge=1, description="largest medium that is taken in, bytes")] = 68_719_476_736
    upload_idle_s: Annotated[float, Meta(gt=0, le=3600, description="s an upload may send nothing")] = 60.0
    upload_resume_s: Annotated[
        int, Meta(ge=1, le=86_400, description="s that a client may take to come back to a resumable upload")
    ] = 120
    uploads_per_client_max: Annotated[
        int,
        Meta(
            ge=1, le=100_000, description="uploads of one user, or address, at a time on this edge; one more gets 429"
        ),
    ] = 256
    free_bytes_min: Annotated[
        int,
        Meta(
            ge=0, description="bytes that stay free in the storage: what would need them gets 507, and readiness fails"
        ),
    ] = 268_435_456
    media_kept_s: Annotated[float, Meta(gt=0, le=CENTURY_S, description="s that media without an owner are kept")] = (
        86_400.0
    )
    confirm_wait_s: Annotated[
        float, Meta(gt=0, le=600, description="s a whole upload waits for a broker that is away; then 503")
    ] = 10.0
    answer_wait_s: Annotated[
        float, Meta(gt=0, le=86_400, description="s a client of POST /detect waits for its detections; then 504")
    ] = 300.0
    tasks_kept_s: Annotated[
        float, Meta(gt=0, le=CENTURY_S, description="s that tasks and their results are kept after their end")
    ] = 2_592_000.0
    tasks_silent_s: Annotated[
        float,
        Meta(gt=0, le=CENTURY_S, description="s without a sign of life after which a task without an end is given up"),
    ] = 604_800.0
    sweep_interval_s: Annotated[
        float, Meta(gt=0, le=86_400, description="s between two looks for what has had its time")
    ] = 300.0
    annotations_url: Annotated[
        str, Meta(pattern=HTTP_PATTERN, description="the Annotations service, `http://host:8080`; unset: off")
    ] = ""
    videos_dir: Annotated[str, Meta(description="media root `videos`, for media by id; unset: refused")] = ""
    images_dir: Annotated[str, Meta(description="media root `images`, for media by id; unset: refused")] = ""
    annotations_timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="s that one call of the Annotations service may take in all")
    ] = 10.0
    annotations_refresh_path: Annotated[
        str, Meta(pattern="^/", description="where the Annotations service refreshes tokens")
    ] = "/auth/refresh"
    media_type_image: Annotated[int, Meta(description="number of an image in the Annotations service")] = 10
    media_type_video: Annotated[int, Meta(description="number of a video in the Annotations service")] = 20
    posts_in_flight_max: Annotated[
        int, Meta(ge=1, le=1_000, description="media of which the Annotations service is told at a time")
    ] = 16
    post_delays_s: Annotated[
        str,
        Meta(
            pattern=r"^\d+(\.\d+)?( \d+(\.\d+)?){0,3}$",
            description="s before a failed post is tried again, growing, four at most; the last one repeats",
        ),
    ] = "5 30 120 600"
    post_retry_for_s: Annotated[
        float, Meta(gt=0, le=CENTURY_S, description="s that a post is tried for; then it is a dead letter")
    ] = 86_400.0
    post_lease_s: Annotated[
        float, Meta(gt=0, le=600, description="s of silence after which another edge goes on telling of a medium")
    ] = 10.0
    post_scan_s: Annotated[
        float, Meta(gt=0, le=86_400, description="s between two looks for tasks whose wake-up was lost")
    ] = 60.0
    disk_threads: Annotated[int, Meta(ge=1, le=1_000, description="threads that read and write the storage")] = 32

    @property
    def storage(self) -> Path:
        return Path(self.storage_dir)

    @property
    def post_delays(self) -> tuple[float, ...]:
        """Seconds before each further try."""
        return tuple(float(delay) for delay in self.post_delays_s.split())


def from_environment(environ: Mapping[str, str]) -> EdgeSettings:
    """The settings of this process. Raises `ConfigurationError` naming the variable."""
    settings = read_settings(EdgeSettings, environ, prefix=PREFIX, shared=SHARED)
    check_nodes(settings.amqp_url)
    return settings


def unread(environ: Mapping[str, str]) -> list[str]:
    """What is named like a setting of an edge in an environment, and is none."""
    return unread_variables(EdgeSettings, environ, prefix=PREFIX, shared=SHARED)
