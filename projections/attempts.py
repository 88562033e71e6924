"""Attempts, folded from the events of executions: each time that a node took one is a row."""

from events import execution
from projections.projection import Column, Projection, Register

_OVER = tuple(event.name() for event in execution.TERMINAL)
_BROKEN = ("attempt_failed", "attempt_lost")

STARTED = Register(
    "started",
    "first",
    ("started", "attempt_failed", *_OVER),
    "event = 'started' OR json_exists(data, '$.began')",
)
# The first of them: an execution that is lost for good has an `attempt_lost`, and a `failed` after it.
ENDED = Register("ended", "first", (*_BROKEN, *_OVER))

_STATUS = """CASE @event
    WHEN 'attempt_failed' THEN if($.error.code = 'timeout', 'timed_out', 'failed')
    WHEN 'attempt_lost' THEN 'lost' ELSE @event END"""
_REASON = "CASE @event WHEN 'attempt_lost' THEN $.reason ELSE $.error.code END"
_ENDED_AT = "coalesce(TRY_CAST($.end.ended_at AS TIMESTAMP), @time)"


def _end_of(stream: str) -> str:
    return f"CASE WHEN @event <> 'attempt_lost' THEN coalesce($.end.{stream}_bytes, '0') END"


ATTEMPTS = Projection(
    name="attempts",
    kind="execution",
    version=2,
    kept=False,
    events=("started", *_BROKEN, *_OVER),
    key="entity || '/' || nullif(data->>'$.attempt', '0')",
    columns=(
        Column("execution", "VARCHAR", STARTED, "@entity", "the execution"),
        Column("attempt", "BIGINT", STARTED, "$.attempt", "which attempt it is, counted from 1"),
        Column(
            "status",
            "VARCHAR",
            ENDED,
            _STATUS,
            "`running`, `completed`, `failed`, `timed_out`, `cancelled` or `lost`",
            "'running'",
        ),
        Column("reason", "VARCHAR", ENDED, _REASON, "why it failed, or how it was lost"),
        Column("node", "VARCHAR", STARTED, "coalesce($.node, $.began.node)", "the node that took it"),
        Column(
            "worker", "VARCHAR", STARTED, "coalesce($.worker, $.began.worker)", "the worker, when it is a job"
        ),
        Column(
            "boot",
            "VARCHAR",
            STARTED,
            "coalesce($.boot, $.began.boot)",
            "and the random word of that node's start",
        ),
        Column(
            "started_at",
            "TIMESTAMP",
            STARTED,
            "coalesce(TRY_CAST($.began.at AS TIMESTAMP), @time)",
            "when it was taken",
        ),
        Column("ended_at", "TIMESTAMP", ENDED, _ENDED_AT, "when its process ended, or that was decided"),
        Column("duration_ms", "BIGINT", ENDED, "$.end.duration_ms", "how long its process ran"),
        Column("exit_code", "BIGINT", ENDED, "$.end.exit_code", "null where there is none"),
        Column("signal", "VARCHAR", ENDED, "$.end.signal", "the signal that ended it"),
        Column("error", "JSON", ENDED, "$.error", "`{code, message, details}`"),
        Column("pid", "BIGINT", ENDED, "$.end.pid", "its process, once it is over"),
        Column(
            "stdout_offset", "BIGINT", STARTED, "$.stdout_offset", "where its output begins in the file", "0"
        ),
        Column("stderr_offset", "BIGINT", STARTED, "$.stderr_offset", "the same, of stderr", "0"),
        Column(
            "stdout_end", "BIGINT", ENDED, _end_of("stdout"), "where its output ends; null if it was lost"
        ),
        Column("stderr_end", "BIGINT", ENDED, _end_of("stderr"), "the same, of stderr"),
        Column("last_output", "VARCHAR", ENDED, "$.end.last_output", "its last line that was not empty"),
    ),
    public=(
        "id",
        "execution",
        "attempt",
        "status",
        "reason",
        "node",
        "worker",
        "boot",
        "started_at",
        "ended_at",
        "duration_ms",
        "exit_code",
        "signal",
        "error",
        "pid",
        "stdout_offset",
        "stderr_offset",
        "stdout_end",
        "stderr_end",
        "last_output",
        "seq",
    ),
)
