"""Executions, folded from their events: the same words and numbers that the doors show."""

from events import execution
from projections.projection import Column, Count, Projection, Register, Selection, quoted

_OVER = tuple(event.name() for event in execution.TERMINAL)
_ALL = tuple(event.name() for event in execution.EVENTS)
_SILENT = ("progressed", "cancel_requested", "prioritized", "discarded", "remembered")

BIRTH = Register("birth", "first", ("held", "queued"))
STATUS = Register("status", "last", tuple(name for name in _ALL if name not in _SILENT), reads=("held",))
HELD = Register("held", "last", ("held", "queued", *_OVER), reads=("held",))
QUEUED = Register("queued", "last", ("queued",))
BEGAN = ("attempt_failed", *_OVER)
"""What ends an attempt may also say how it began."""
STARTED = Register(
    "started", "last", ("started", *BEGAN), "event = 'started' OR json_exists(data, '$.began')"
)
LEVEL = Register(
    "level",
    "last",
    ("held", "queued", "prioritized"),
    "event = 'prioritized' OR json_exists(data, '$.spec')",
)
REPORT = Register("report", "last", ("started", "progressed", "attempt_failed", *_OVER))
PROCESS = Register(
    "process",
    "last",
    ("started", "progressed", "attempt_failed", *_OVER),
    "event <> 'progressed' OR (data->>'$.pid') IS NOT NULL",
)
END = Register("ended", "last", _OVER)

_CODES = (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029)
_SPACE = "".join(map(chr, (*_CODES, 0x202F, 0x205F, 0x3000)))
"""What Python's `str.strip` takes for white space."""
_SAFE = quoted(r"[A-Za-z0-9_@%+=:,./-]+")


def _word(text: str) -> str:
    """One word as a shell would take it, in SQL; the rule of `shlex.quote`."""
    escaped = f"replace({text}, '''', '''\"''\"''')"
    return f"CASE WHEN regexp_full_match({text}, {_SAFE}) THEN {text} ELSE '''' || {escaped} || '''' END"


def _words(first: str, rest: str) -> str:
    """A command line of words, in SQL; the rule of `shlex.join`."""
    words = f"list_concat({first}, coalesce(from_json({rest}, '[\"VARCHAR\"]'), []))"
    return f"array_to_string(list_transform({words}, lambda w: {_word('w')}), ' ')"


_FIRST_LINE = f"left(split_part(trim($.spec.code, {quoted(_SPACE)}), chr(10), 1), 200)"
_COMMAND = f"""CASE
    WHEN $.spec.code.blob IS NOT NULL THEN $.spec.language || ': (large)'
    WHEN $.spec.code IS NOT NULL THEN $.spec.language || ': ' || {_FIRST_LINE}
    WHEN $.spec.script.path IS NOT NULL THEN {
    _words(
        "if(coalesce($.spec.script.interpreter, '') = '', [], [$.spec.script.interpreter])",
        "to_json([$.spec.script.path])",
    )
}
    WHEN $.spec.exec.program IS NOT NULL THEN {_words("[$.spec.exec.program]", "$.spec.exec.args")}
    WHEN $.spec.shell.command IS NOT NULL THEN $.spec.shell.command
    WHEN $.spec.aws.service IS NOT NULL
        THEN {_words("['aws', $.spec.aws.service, $.spec.aws.operation]", "$.spec.aws.args")}
    WHEN $.spec.job.type IS NOT NULL THEN $.spec.job.type
    END"""
_KIND = """CASE
    WHEN $.spec.code IS NOT NULL THEN 'code'
    WHEN $.spec.script.path IS NOT NULL THEN 'script'
    WHEN $.spec.exec.program IS NOT NULL THEN 'exec'
    WHEN $.spec.shell.command IS NOT NULL THEN 'shell'
    WHEN $.spec.aws.service IS NOT NULL THEN 'aws'
    WHEN $.spec.job.type IS NOT NULL THEN 'job'
    END"""
_STATUS = """CASE @event
    WHEN 'held' THEN if($.reason = 'time', 'scheduled', 'queued')
    WHEN 'queued' THEN 'queued'
    WHEN 'started' THEN 'running'
    WHEN 'attempt_failed' THEN 'queued'
    WHEN 'attempt_lost' THEN 'queued'
    ELSE @event END"""
_HELD = """CASE @event WHEN 'held'
    THEN json_object('reason', $.reason, 'by', coalesce($.by, $.taken_by), 'until', $.until) END"""


def _told(field: str) -> str:
    """What the last report said, or the end; a new attempt has said nothing yet."""
    return f"CASE @event WHEN 'started' THEN NULL WHEN 'progressed' THEN $.{field} ELSE $.end.{field} END"


def _number(field: str) -> str:
    return f"TRY_CAST({_told(field)} AS DOUBLE)"


_PROGRESS = f"""CASE
    WHEN {_number("progress.fraction")} IS NOT NULL
        THEN printf('%.0f%% complete', {_number("progress.fraction")} * 100)
    WHEN {_number("progress.current")} IS NOT NULL
        THEN printf('%g', {_number("progress.current")})
            || coalesce('/' || printf('%g', {_number("progress.total")}), '')
    ELSE {_told("progress.message")} END"""

_PUBLIC = (
    "id status reason held kind command code language description labels module priority node worker"
    " attempt pid exit_code signal error created_at queued_at started_at completed_at duration_ms timeout_ms"
    " progress progress_current progress_total progress_message last_output last_output_at stdout_bytes"
    " stderr_bytes stdout stderr idempotency_key plan_id playbook_id step schedule_id concurrency_key retries"
    " attempts_failed retry_of job value seq"
)

EXECUTIONS = Projection(
    name="executions",
    kind="execution",
    version=6,
    events=_ALL,
    columns=(
        Column("status", "VARCHAR", STATUS, _STATUS, "`scheduled`, `queued`, `running`, or how it ended"),
        Column("reason", "VARCHAR", END, "CASE @event WHEN 'failed' THEN $.error.code END", "why it failed"),
        Column("held", "JSON", HELD, _HELD, "what it waits for: `{reason, by, until}`"),
        Column("kind", "VARCHAR", BIRTH, _KIND, "the form: `code`, `script`, `exec`, `shell`, `aws`, `job`"),
        Column("command", "VARCHAR", BIRTH, _COMMAND, "the command as a person would write it"),
        Column(
            "code",
            "VARCHAR",
            BIRTH,
            "coalesce('blob:' || $.spec.code.blob, $.spec.code)",
            "the code, or `blob:` and the hash under which it lies",
        ),
        Column("language", "VARCHAR", BIRTH, "$.spec.language", "the language of the code"),
        Column("description", "VARCHAR", BIRTH, "$.spec.description", "what the submitter said it is"),
        Column("labels", "VARCHAR[]", BIRTH, "from_json($.spec.labels, '[\"VARCHAR\"]')", "its labels", "[]"),
        Column("module", "VARCHAR", BIRTH, "$.spec.module", "the module whose workers take it", "'commands'"),
        Column(
            "priority",
            "VARCHAR",
            LEVEL,
            "CASE @event WHEN 'prioritized' THEN $.priority ELSE $.spec.priority END",
            "how urgent it is now, `critical` to `idle`",
            "'medium'",
        ),
        Column("node", "VARCHAR", STARTED, "coalesce($.node, $.began.node)", "the node that took it last"),
        Column(
            "worker",
            "VARCHAR",
            STARTED,
            "coalesce($.worker, $.began.worker)",
            "the worker that took it, when it is a job",
        ),
        Column("attempt", "BIGINT", STARTED, "$.attempt", "how often it was taken", "0"),
        Column(
            "pid",
            "BIGINT",
            PROCESS,
            "coalesce($.pid, $.end.pid)",
            "the process of the attempt, as last reported",
        ),
        Column("exit_code", "BIGINT", END, "$.end.exit_code", "null while it runs, and when there is none"),
        Column("signal", "VARCHAR", END, "$.end.signal", "the signal that ended it"),
        Column("error", "JSON", END, "$.error", "`{code, message, details}`"),
        Column("created_at", "TIMESTAMP", BIRTH, "@time", "when it was submitted"),
        Column("queued_at", "TIMESTAMP", QUEUED, "@time", "when it was last queued"),
        Column(
            "started_at",
            "TIMESTAMP",
            STARTED,
            "coalesce(TRY_CAST($.began.at AS TIMESTAMP), @time)",
            "when it was last taken",
        ),
        Column(
            "completed_at",
            "TIMESTAMP",
            END,
            "coalesce(TRY_CAST($.end.ended_at AS TIMESTAMP), @time)",
            "when its process ended, or when that was decided",
        ),
        Column("duration_ms", "BIGINT", END, "$.end.duration_ms", "how long its last process ran"),
        Column("timeout_ms", "BIGINT", BIRTH, "$.spec.timeout_ms", "how long it may run"),
        Column("progress", "VARCHAR", REPORT, _PROGRESS, "how far it is, as text"),
        Column("progress_current", "DOUBLE", REPORT, _told("progress.current"), "how much is done"),
        Column("progress_total", "DOUBLE", REPORT, _told("progress.total"), "how much there is to do"),
        Column("progress_message", "VARCHAR", REPORT, _told("progress.message"), "what it says it is at"),
        Column("last_output", "VARCHAR", REPORT, _told("last_output"), "the last line that was not empty"),
        Column("last_output_at", "TIMESTAMP", REPORT, _told("last_output_at"), "when it was written"),
        Column("stdout_bytes", "BIGINT", REPORT, _told("stdout_bytes"), "how much was written", "0"),
        Column("stderr_bytes", "BIGINT", REPORT, _told("stderr_bytes"), "how much was written", "0"),
        Column("idempotency_key", "VARCHAR", BIRTH, "$.spec.idempotency_key", "the key of the request"),
        Column("plan_id", "VARCHAR", BIRTH, "$.spec.plan_id", "the plan it is a step of"),
        Column("playbook_id", "VARCHAR", BIRTH, "$.spec.playbook_id", "the playbook it is a step of"),
        Column("step", "VARCHAR", BIRTH, "$.spec.step", "which step of that plan, or which operation"),
        Column("schedule_id", "VARCHAR", BIRTH, "$.spec.schedule_id", "the schedule it is a tick of"),
        Column(
            "concurrency_key",
            "VARCHAR",
            BIRTH,
            "$.spec.concurrency_key",
            "what has the same one shares a limit",
        ),
        Column("retries", "BIGINT", BIRTH, "$.spec.retries.max", "attempts after the first", "0"),
        Count(
            "attempts_failed",
            ("attempt_failed", "attempt_lost"),
            None,
            "how many attempts failed or were lost, those that a node gave back not among them",
            "if((data->>'$.reason') IS NOT DISTINCT FROM 'shutdown', 0, 1)",
        ),
        Count("discarded", ("discarded",), None, "whether somebody has seen that it is parked", hidden=True),
        Column("retry_of", "VARCHAR", BIRTH, "$.retry_of", "the execution that it repeats"),
        Column(
            "log_path",
            "VARCHAR",
            STARTED,
            "coalesce($.log_path, $.began.log_path)",
            "where its output lies",
            hidden=True,
        ),
        Column("job", "JSON", BIRTH, "json_extract($.spec.job, '/data')", "what a job was given"),
        Column("value", "JSON", END, "json_extract($.end, '/value')", "what a job gave"),
    ),
    public=tuple(_PUBLIC.split()),
    extras=(("stdout", "NULL::VARCHAR"), ("stderr", "NULL::VARCHAR")),
)

DEAD_LETTERS = Selection(
    name="dead_letters",
    of=EXECUTIONS,
    where="reason = 'poisoned' AND discarded = 0",
    columns=(
        ("id", "id"),
        ("command", "command"),
        ("description", "description"),
        ("module", "module"),
        ("labels", "labels"),
        ("attempt", "attempt"),
        ("node", "node"),
        ("error", "error"),
        ("created_at", "created_at"),
        ("parked_at", "completed_at"),
        ("last_output", "last_output"),
        ("plan_id", "plan_id"),
        ("step", "step"),
        ("seq", "seq"),
    ),
)
