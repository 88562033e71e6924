"""Tasks, their phases and their handoffs, folded from their events."""

from events import task
from projections.projection import Column, Projection, Register, Spread

BIRTH = Register("birth", "first", ("submitted",))
STATE = Register(
    "state",
    "last",
    ("submitted", "phase_started", "paused", "resumed", "completed", "failed", "cancelled"),
)
PLACE = Register("place", "last", ("phase_started", "completed"))
KEPT = Register("kept", "last", ("submitted", "phase_ended"))
SAVED = Register("saved", "last", ("phase_ended",), "data->>'$.checkpoint_at' IS NOT NULL")
FATE = Register("fate", "last", ("phase_started", "completed", "failed", "cancelled"))
TOUCHED = Register("touched", "last", tuple(event.name() for event in task.EVENTS))

TASKS = Projection(
    name="task_ir",
    kind="task",
    version=1,
    events=tuple(event.name() for event in task.EVENTS),
    columns=(
        Column("intent_instance_id", "VARCHAR", BIRTH, "$.task.intent_instance_id", "what it is for"),
        Column("workspace_id", "VARCHAR", BIRTH, "$.task.workspace_id", "the workspace", "'default'"),
        Column("actor_id", "VARCHAR", BIRTH, "$.task.actor_id", "on whose behalf", "''"),
        Column(
            "status",
            "VARCHAR",
            STATE,
            "CASE @event WHEN 'submitted' THEN 'pending' WHEN 'phase_started' THEN 'running'"
            " WHEN 'resumed' THEN 'running' WHEN 'completed' THEN 'done' ELSE @event END",
            "`pending`, `running`, `paused`, `done`, `failed` or `cancelled`",
        ),
        Column("current_phase", "VARCHAR", PLACE, "$.phase_id", "the phase that an engine has"),
        Column("engine", "VARCHAR", PLACE, "$.engine", "that engine"),
        Column("title", "VARCHAR", BIRTH, "$.task.metadata.title", "what it is called", "''"),
        Column("source", "VARCHAR", BIRTH, "$.task.metadata.source", "who had it before", "''"),
        Column("source_id", "VARCHAR", BIRTH, "$.task.metadata.source_id", "what it is called there", "''"),
        Column(
            "source_status", "VARCHAR", BIRTH, "$.task.metadata.source_status", "its status there then", "''"
        ),
        Column(
            "supports_resume",
            "BOOLEAN",
            BIRTH,
            "coalesce($.task.metadata.supports_resume, 'true')",
            "whether checkpoints are made",
        ),
        Column("phases", "JSON", BIRTH, "$.task.phases", "its phases as they came", "'[]'"),
        Column(
            "artifacts",
            "JSON",
            KEPT,
            "coalesce($.task.artifacts, $.artifacts)",
            "`[{id, name, phase_id}]`, all there are so far",
            "'[]'",
        ),
        Column("metadata", "JSON", BIRTH, "$.task.metadata", "what else was said of it", "'{}'"),
        Column(
            "error",
            "JSON",
            FATE,
            "CASE @event WHEN 'failed' THEN $.error END",
            "`{code, message, details}`",
        ),
        Column("created_at", "TIMESTAMP", BIRTH, "@time", "when it was taken on"),
        Column("updated_at", "TIMESTAMP", TOUCHED, "@time", "when something was last said of it"),
        Column("last_checkpoint_at", "TIMESTAMP", SAVED, "$.checkpoint_at", "the last one of its phases"),
        Column(
            "completed_at",
            "TIMESTAMP",
            FATE,
            "CASE @event WHEN 'phase_started' THEN NULL ELSE @time END",
            "when it was over",
        ),
    ),
    public=(
        *("id", "status", "intent_instance_id", "workspace_id", "actor_id", "current_phase", "engine"),
        *("title", "source", "source_id", "source_status", "supports_resume", "phases", "artifacts"),
        *("metadata", "error", "created_at", "updated_at", "last_checkpoint_at", "completed_at", "seq"),
    ),
)

# ---- phases ----------------------------------------------------------------------------------------------

GIVEN = Register("given", "last", ("submitted", "phase_started", "phase_ended"))
NAMED = Register("named", "first", ("submitted",))
STARTED = Register("started", "last", ("phase_started",))
ENDED = Register("ended", "last", ("submitted", "phase_started", "phase_ended"))
_PHASE = "entity || '/' || (data->>'$.phase_id')"

PHASES = Projection(
    name="task_phases",
    kind="task",
    version=1,
    events=("submitted", "phase_started", "phase_ended"),
    key=_PHASE,
    spreads=(Spread(("submitted",), "$.task.phases", "entity || '/' || (data->>'$.id')"),),
    columns=(
        Column("task_id", "VARCHAR", NAMED, "@entity", "the task"),
        Column("place", "BIGINT", NAMED, "@place", "its place in the task, counted from 1"),
        Column("phase_id", "VARCHAR", NAMED, "$.id", "its id there"),
        Column("name", "VARCHAR", NAMED, "$.name", "what it is called", "''"),
        Column("preferred_engine", "VARCHAR", NAMED, "$.preferred_engine", "who was to do it"),
        Column("engine", "VARCHAR", STARTED, "$.engine", "who did it last"),
        Column(
            "status",
            "VARCHAR",
            GIVEN,
            "CASE @event WHEN 'phase_started' THEN 'running' ELSE coalesce($.status, 'pending') END",
            "`pending`, `running`, `done`, `failed`, `cancelled`, `skipped` or `handed_over`",
        ),
        Column("run", "BIGINT", STARTED, "$.run", "how often an engine was given it", "0"),
        Column("outputs", "JSON", ENDED, "$.outputs", "what it left for the phases after it"),
        Column(
            "artifacts",
            "VARCHAR[]",
            ENDED,
            "from_json(CASE @event WHEN 'submitted' THEN $.artifacts ELSE $.left END, '[\"VARCHAR\"]')",
            "the artifacts that it left",
            "[]",
        ),
        Column("error", "JSON", ENDED, "$.error", "`{code, message, details}`"),
        Column("started_at", "TIMESTAMP", STARTED, "@time", "when it last began"),
        Column(
            "ended_at",
            "TIMESTAMP",
            ENDED,
            "CASE @event WHEN 'phase_ended' THEN @time"
            " WHEN 'submitted' THEN TRY_CAST($.ended_at AS TIMESTAMP) END",
            "when its engine was through with it",
        ),
    ),
    public=(
        *("id", "task_id", "place", "phase_id", "name", "preferred_engine", "engine", "status", "run"),
        *("outputs", "artifacts", "error", "started_at", "ended_at", "seq"),
    ),
)

# ---- handoffs --------------------------------------------------------------------------------------------

HANDED = Register("handed", "first", ("handed_over",))

HANDOFFS = Projection(
    name="handoffs",
    kind="task",
    version=1,
    events=("handed_over",),
    key="entity || '/' || n",
    columns=(
        Column("task_id", "VARCHAR", HANDED, "@entity", "the task"),
        Column("phase_id", "VARCHAR", HANDED, "$.phase_id", "the phase that was handed over"),
        Column("from_engine", "VARCHAR", HANDED, "$.from_engine", "who had it, or the phase before"),
        Column("to_engine", "VARCHAR", HANDED, "$.to_engine", "who got it"),
        Column("reason", "VARCHAR", HANDED, "$.reason", "why", "''"),
        Column(
            "artifacts",
            "VARCHAR[]",
            HANDED,
            "from_json($.artifacts, '[\"VARCHAR\"]')",
            "the artifacts that went along",
            "[]",
        ),
        Column("time", "TIMESTAMP", HANDED, "@time", "when"),
    ),
    public=("id", "task_id", "phase_id", "from_engine", "to_engine", "reason", "artifacts", "time", "seq"),
)

TABLES = (TASKS, PHASES, HANDOFFS)
