# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""Plans and their steps, folded from the events of plans; of a batch only counts are kept."""

from events import plan
from projections.projection import Column, Count, Projection, Register, Spread

_ENDS = ("completed", "failed", "cancelled")

SUBMITTED = Register("submitted", "first", ("submitted",))
STATUS = Register("status", "last", ("submitted", "paused", "resumed", "rerun_requested", *_ENDS))
END = Register("ended", "last", ("rerun_requested", *_ENDS))
RERUN = Register("rerun", "last", ("rerun_requested",))
STOP = Register("stop", "last", ("cancel_requested", "rerun_requested"))
BACK = Register("back", "last", ("rollback_started", "rolled_back", "rollback_failed", "rerun_requested"))
SEAL = Register("seal", "last", ("submitted", "sealed", "rerun_requested"))

_BATCH = "r.strategy = 'batch'"
_WELL = "json_extract_string(data, '$.ended[*][1]')"
_KNOWN = """CASE event
    WHEN 'submitted' THEN coalesce(TRY_CAST(data->>'$.total' AS BIGINT),
        json_array_length(data, '$.definition.operations.items'),
        TRY_CAST(data->>'$.definition.operations.count' AS BIGINT), 0)
    ELSE coalesce(json_array_length(data, '$.items'), 0)
        + coalesce(TRY_CAST(data->>'$.count' AS BIGINT), 0) END"""
_STARTED = f"""coalesce(TRY_CAST(data->>'$.count' AS BIGINT), 0) - len({_WELL})"""


_SAID = "CASE WHEN @event <> 'rerun_requested' THEN coalesce($.completed, '0') END"


def _steps(statuses: str) -> str:
    """How many steps of a plan are in some state."""
    return (
        f"(SELECT count(*) FROM {{plan_steps}} s WHERE s.plan_id = r.id AND s.place > 0"
        f" AND s.status IN ({statuses}))"
    )


def _done(counted: str, statuses: str) -> str:
    return f"CASE WHEN {_BATCH} THEN {counted} ELSE {_steps(statuses)} END"


PLANS = Projection(
    name="plans",
    kind="plan",
    version=3,
    events=tuple(event.name() for event in plan.EVENTS),
    columns=(
        Column("name", "VARCHAR", SUBMITTED, "$.definition.name", "its name", "''"),
        Column("description", "VARCHAR", SUBMITTED, "$.definition.description", "what the submitter said"),
        Column(
            "strategy",
            "VARCHAR",
            SUBMITTED,
            "$.definition.strategy",
            "`serial`, `parallel`, `graph` or `batch`",
            "'serial'",
        ),
        Column(
            "status",
            "VARCHAR",
            STATUS,
            "CASE WHEN @event IN ('submitted', 'resumed', 'rerun_requested') THEN 'running' ELSE @event END",
            "`running`, `paused`, `completed`, `failed` or `cancelled`",
        ),
        Column(
            "rollback",
            "VARCHAR",
            BACK,
            "CASE @event WHEN 'rollback_started' THEN 'running' WHEN 'rolled_back' THEN 'done'"
            " WHEN 'rollback_failed' THEN 'failed' ELSE 'none' END",
            "whether it is taken back: `none`, `running`, `done` or `failed`",
            "'none'",
        ),
        Column(
            "cancelling",
            "BOOLEAN",
            STOP,
            "@event = 'cancel_requested'",
            "somebody wanted it stopped",
            "false",
        ),
        Column("error", "JSON", END, "$.error", "why it failed or was cancelled"),
        Column(
            "max_concurrency", "BIGINT", SUBMITTED, "$.definition.max_concurrency", "how many run at once"
        ),
        Column(
            "labels",
            "VARCHAR[]",
            SUBMITTED,
            "from_json($.definition.labels, '[\"VARCHAR\"]')",
            "its labels",
            "[]",
        ),
        Column("priority", "VARCHAR", SUBMITTED, "$.definition.priority", "of its executions"),
        Column(
            "job", "VARCHAR", SUBMITTED, "$.definition.operations.do.job.type", "the job that a batch runs"
        ),
        Column("params", "JSON", SUBMITTED, "$.params", "what its parameters are"),
        Column("template", "VARCHAR", SUBMITTED, "$.template", "the template that it was started from"),
        Column("version", "BIGINT", SUBMITTED, "$.version", "which version of it"),
        Column("parent", "VARCHAR", SUBMITTED, "$.parent.plan_id", "the plan that it is a step of"),
        Column("parent_step", "VARCHAR", SUBMITTED, "$.parent.step", "which step of that plan"),
        Column("schedule_id", "VARCHAR", SUBMITTED, "$.schedule_id", "the schedule that it is a tick of"),
        Column("created_at", "TIMESTAMP", SUBMITTED, "@time", "when it was submitted"),
        Column(
            "completed_at",
            "TIMESTAMP",
            END,
            "CASE @event WHEN 'rerun_requested' THEN NULL ELSE @time END",
            "when it ended",
        ),
        Count("reruns", ("rerun_requested",), None, "how often steps of it were run again"),
        Column(
            "open",
            "BOOLEAN",
            SEAL,
            "@event = 'submitted' AND coalesce($.open, 'false') = 'true'",
            "more operations may come",
            "false",
            hidden=True,
        ),
        Count("known", ("submitted", "extended"), None, "operations so far", _KNOWN, hidden=True),
        Count(
            "well",
            ("advanced",),
            None,
            "operations that ended well",
            f"len(list_filter({_WELL}, lambda s: s = 'completed'))",
            hidden=True,
        ),
        Count(
            "badly",
            ("advanced",),
            RERUN,
            "operations that did not",
            f"len(list_filter({_WELL}, lambda s: s <> 'completed'))",
            hidden=True,
        ),
        Count("undone", ("step_undone",), None, "operations that were taken back", hidden=True),
        Count("going", ("advanced",), RERUN, "operations that run", _STARTED, hidden=True),
        Column("said_well", "BIGINT", END, _SAID, "what the end said", hidden=True),
        Column("said_skipped", "BIGINT", END, "$.skipped", "what the end said", hidden=True),
    ),
    public=(
        "id",
        "name",
        "description",
        "strategy",
        "status",
        "rollback",
        "cancelling",
        "error",
        "total",
        "completed",
        "failed",
        "skipped",
        "running",
        "max_concurrency",
        "labels",
        "priority",
        "job",
        "params",
        "template",
        "version",
        "parent",
        "parent_step",
        "schedule_id",
        "reruns",
        "created_at",
        "completed_at",
        "seq",
    ),
    extras=(
        ("total", "CASE WHEN r.open THEN NULL ELSE r.known END"),
        ("completed", _done("coalesce(r.said_well, r.well - r.undone)", "'completed'")),
        ("failed", _done("r.badly", "'failed', 'cancelled', 'timed_out'")),
        ("skipped", _done("coalesce(r.said_skipped, 0)", "'skipped'")),
        ("running", _done("r.going", "'running'")),
    ),
    told=(
        ("total", "how many steps or operations it has; null while more may come"),
        ("completed", "how many ended well"),
        ("failed", "how many ended in any other way"),
        ("skipped", "how many were passed over"),
        ("running", "how many run"),
    ),
)

# ---- steps -----------------------------------------------------------------------------------------------

BIRTH = Register("birth", "first", ("submitted",))
STEP = Register(
    "step", "last", ("submitted", "steps_started", "steps_skipped", "step_ended", "rerun_requested")
)
LAUNCH = Register("launch", "last", ("steps_started", "rerun_requested"))
UNDO = Register(
    "undo",
    "last",
    ("rollback_started", "undo_started", "step_undone", "rollback_failed", "rerun_requested"),
)
_STEP = "entity || '/' || (data->>'$.step')"


def _child(kind: str, prefix: str) -> str:
    """The id of what a step runs, in SQL; the rule of `events.ids.derived`."""
    key = "@entity || '/' || $.step || '/' || coalesce($.run, '1')"
    bits = f"'00' || unhex(left(sha256('{kind}' || chr(10) || {key}), 32))::BIT::VARCHAR"
    letter = "substr('0123456789abcdefghjkmnpqrstvwxyz', 1 + substr(b, 1 + 5 * n, 5)::BIT::INTEGER, 1)"
    word = f"array_to_string(list_transform(range(26), lambda n: {letter}), '')"
    made = f"'{prefix}_' || list_transform([{bits}], lambda b: {word})[1]"
    return f"CASE @event WHEN 'steps_started' THEN {made} END"


PLAN_STEPS = Projection(
    name="plan_steps",
    kind="plan",
    version=1,
    events=(
        "submitted",
        "steps_started",
        "steps_skipped",
        "step_ended",
        "rerun_requested",
        "rollback_started",
        "undo_started",
        "step_undone",
        "rollback_failed",
    ),
    key=_STEP,
    spreads=(
        Spread(("submitted",), "$.definition.steps", "entity || '/' || (data->>'$.name')"),
        Spread(("steps_started", "steps_skipped"), "$.steps", _STEP),
        Spread(("rerun_requested", "rollback_started"), "$.steps", "entity || '/' || (data->>'$')"),
    ),
    where="place > 0",  # what is taken back of a batch is no step
    columns=(
        Column("plan_id", "VARCHAR", BIRTH, "@entity", "the plan"),
        Column("place", "BIGINT", BIRTH, "@place", "its place in the plan, counted from 1"),
        Column("step", "VARCHAR", BIRTH, "$.name", "its name"),
        Column(
            "status",
            "VARCHAR",
            STEP,
            "CASE @event WHEN 'steps_started' THEN 'running' WHEN 'steps_skipped' THEN 'skipped'"
            " WHEN 'step_ended' THEN $.status WHEN 'submitted' THEN 'pending'"
            " WHEN 'rerun_requested' THEN 'pending' END",
            "`pending`, `running`, `completed`, `failed`, `cancelled`, `timed_out` or `skipped`",
        ),
        Count("run", ("submitted", "rerun_requested"), None, "which run it is, counted from 1"),
        Column(
            "reason",
            "VARCHAR",
            STEP,
            "CASE @event WHEN 'steps_skipped' THEN $.reason ELSE $.error.code END",
            "why it was skipped (`when`, `needs <step>`, `stopped`, `cancelled`), or why it failed",
        ),
        Column(
            "needs",
            "VARCHAR[]",
            BIRTH,
            "from_json($.needs, '[\"VARCHAR\"]')",
            "what has to be over first",
            "[]",
        ),
        Column("when", "VARCHAR", BIRTH, "$.when", "the condition under which it runs"),
        Column(
            "allow_failure",
            "BOOLEAN",
            BIRTH,
            "$.allow_failure",
            "where it fails, the plan goes on as if it had not",
            "false",
        ),
        Column("exit_code", "BIGINT", STEP, "$.exit_code", "null while it runs, and where there is none"),
        Column("error", "JSON", STEP, "$.error", "`{code, message, details}`"),
        Column("outputs", "JSON", STEP, "$.outputs", "what it left for the steps after it"),
        Column("duration_ms", "BIGINT", STEP, "$.duration_ms", "how long it ran"),
        Column(
            "started_at",
            "TIMESTAMP",
            LAUNCH,
            "CASE @event WHEN 'steps_started' THEN @time END",
            "when it started",
        ),
        Column(
            "ended_at",
            "TIMESTAMP",
            STEP,
            "CASE WHEN @event IN ('step_ended', 'steps_skipped') THEN @time END",
            "when it ended or was skipped",
        ),
        Column(
            "undo",
            "VARCHAR",
            UNDO,
            "CASE @event WHEN 'rollback_started' THEN 'pending' WHEN 'undo_started' THEN 'running'"
            " WHEN 'step_undone' THEN 'done' WHEN 'rollback_failed' THEN 'failed' END",
            "whether it is taken back: `pending`, `running`, `done`, `failed`, or null",
        ),
        Column("nested", "BOOLEAN", BIRTH, "$.plan IS NOT NULL", "it is a plan", "false", hidden=True),
        Column("execution", "VARCHAR", LAUNCH, _child("execution", "exec"), "what it runs", hidden=True),
        Column("plan", "VARCHAR", LAUNCH, _child("plan", "plan"), "what it runs", hidden=True),
    ),
    public=(
        "id",
        "plan_id",
        "place",
        "step",
        "status",
        "run",
        "execution_id",
        "child_plan_id",
        "reason",
        "needs",
        "when",
        "allow_failure",
        "exit_code",
        "error",
        "outputs",
        "duration_ms",
        "started_at",
        "ended_at",
        "undo",
        "seq",
    ),
    extras=(
        ("execution_id", "CASE WHEN r.nested THEN NULL ELSE r.execution END"),
        ("child_plan_id", "CASE WHEN r.nested THEN r.plan END"),
    ),
    told=(
        ("execution_id", "the execution that it runs, once it was started"),
        ("child_plan_id", "or the plan"),
    ),
)
