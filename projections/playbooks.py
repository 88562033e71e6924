"""Playbooks with their phases, steps, checkpoints, summaries and questions, folded from their events."""

from events import playbook
from projections.projection import Column, Count, Projection, Register, Spread

_ENDS = ("completed", "failed", "cancelled")
_BACK = "event <> 'resumed' OR (data->>'$.memory') IS NOT NULL"

BIRTH = Register("birth", "first", ("initialized",))
LIFE = Register("life", "last", ("initialized", "paused", "resumed", *_ENDS))
GOING = Register("going", "last", ("step_started", "step_ended", "resumed", *_ENDS), _BACK)
PLACE = Register("place", "last", ("phase_started", "step_started"))
SAVED = Register("saved", "last", ("checkpoint_created",))
KNOWN = Register("known", "last", ("checkpoint_created", "resumed"), _BACK)
END = Register("ended", "last", ("resumed", *_ENDS))
LAST = Register("last", "last", tuple(event.name() for event in playbook.EVENTS))

_STEPS = "len(json_extract(TRY_CAST($.definition.phases AS JSON), '$[*].steps[*]'))"
_LABELS = "from_json($.definition.labels, '[\"VARCHAR\"]')"
_CHECKPOINT = (
    "CASE WHEN $.checkpoint_id IS NOT NULL THEN json_object('checkpoint_id', $.checkpoint_id,"
    " 'at', TRY_CAST($.at AS BIGINT),"
    " 'checksum', $.checksum, 'position', TRY_CAST($.position AS BIGINT), 'time', @time::VARCHAR) END"
)

EXECUTIONS = Projection(
    name="playbook_executions",
    kind="playbook",
    version=1,
    events=tuple(event.name() for event in playbook.EVENTS),
    columns=(
        Column(
            "workspace_id",
            "VARCHAR",
            BIRTH,
            "$.definition.workspace",
            "the workspace that it shares with others",
            "'default'",
        ),
        Column("playbook_code", "VARCHAR", BIRTH, "$.definition.name", "the name of the playbook", "''"),
        Column("version", "VARCHAR", BIRTH, "$.definition.version", "and its version", "''"),
        Column("description", "VARCHAR", BIRTH, "$.definition.description", "what it is for"),
        Column("intent_instance_id", "VARCHAR", BIRTH, "$.intent_instance_id", "what it was started for"),
        Column(
            "life",
            "VARCHAR",
            LIFE,
            "CASE WHEN @event IN ('initialized', 'resumed') THEN 'running' ELSE @event END",
            "its state, questions aside",
            hidden=True,
        ),
        Column(
            "does",
            "VARCHAR",
            GOING,
            "CASE @event WHEN 'step_started' THEN $.does END",
            "what the step does that runs",
            hidden=True,
        ),
        Column(
            "until",
            "TIMESTAMP",
            GOING,
            "CASE @event WHEN 'step_started' THEN TRY_CAST($.until AS TIMESTAMP) END",
            "when that is over",
            hidden=True,
        ),
        Column("phase", "VARCHAR", PLACE, "$.phase_id", "the phase it is in"),
        Column("step", "VARCHAR", PLACE, "$.step", "the step that was started last"),
        Column(
            "completed",
            "BIGINT",
            KNOWN,
            "coalesce($.at, $.memory.at)",
            "how many steps the last checkpoint remembers",
            "0",
        ),
        Column("total", "BIGINT", BIRTH, _STEPS, "how many steps it has"),
        Column("last_checkpoint", "JSON", SAVED, _CHECKPOINT, "its last checkpoint"),
        Count("checkpoints", ("checkpoint_created",), None, "how many checkpoints it has"),
        Count("resumes", ("resumed",), None, "how often it was resumed, and a fork begins with that"),
        Column(
            "error",
            "JSON",
            LIFE,
            "$.error",
            "why it is paused, failed or was cancelled",
        ),
        Column(
            "pause_reason",
            "VARCHAR",
            LIFE,
            "CASE @event WHEN 'paused' THEN $.reason END",
            "why it is paused",
        ),
        Column(
            "stuck",
            "BOOLEAN",
            LIFE,
            "@event = 'paused' AND $.step IS NOT NULL",
            "it is paused because of a step",
            "false",
            hidden=True,
        ),
        Column(
            "supports_resume", "BOOLEAN", BIRTH, "$.supports_resume", "whether checkpoints are made", "true"
        ),
        Column("params", "JSON", BIRTH, "$.params", "what its parameters are"),
        Column(
            "labels",
            "VARCHAR[]",
            BIRTH,
            _LABELS,
            "its labels",
            "[]",
        ),
        Column("parent", "VARCHAR", BIRTH, "$.parent.playbook_id", "the playbook that it is a step of"),
        Column("parent_step", "VARCHAR", BIRTH, "$.parent.step", "which step of that playbook"),
        Column("fork_of", "VARCHAR", BIRTH, "$.fork.playbook_id", "the playbook that it branched off from"),
        Column("fork_checkpoint", "VARCHAR", BIRTH, "$.fork.checkpoint_id", "at which checkpoint of it"),
        Column("progress_log_path", "VARCHAR", BIRTH, "$.progress_log_path", "where its story is told"),
        Column("feature_list_path", "VARCHAR", BIRTH, "$.feature_list_path", "where its steps are listed"),
        Column("created_at", "TIMESTAMP", BIRTH, "@time", "when it was started"),
        Column("updated_at", "TIMESTAMP", LAST, "@time", "when something last happened"),
        Column(
            "completed_at",
            "TIMESTAMP",
            END,
            "CASE WHEN @event <> 'resumed' THEN @time END",
            "when it ended",
        ),
    ),
    public=(
        *("id", "workspace_id", "playbook_code", "version", "description", "intent_instance_id", "status"),
        *("phase", "step", "completed", "total", "last_checkpoint", "checkpoints", "resumes", "error"),
        *("pause_reason", "resting", "wakes_at", "supports_resume", "params", "labels", "parent"),
        *("parent_step", "fork_of", "fork_checkpoint", "progress_log_path", "feature_list_path"),
        *("created_at", "updated_at", "completed_at", "seq"),
    ),
    extras=(
        ("status", "CASE WHEN r.life = 'running' AND r.does = 'input' THEN 'waiting_input' ELSE r.life END"),
        ("resting", "coalesce(r.does IN ('sleep', 'input'), false) OR (r.stuck AND r.does IS NULL)"),
        ("wakes_at", "CASE WHEN r.does = 'sleep' THEN r.until END"),
    ),
    told=(
        ("status", "`running`, `paused`, `waiting_input`, `completed`, `failed` or `cancelled`"),
        ("resting", "nothing runs until its time comes or somebody does something"),
        ("wakes_at", "when a sleep is over"),
    ),
)

# ---- phases ----------------------------------------------------------------------------------------------

_ARTIFACTS = "from_json($.artifacts, '[\"VARCHAR\"]')"
PHASE = Register("phase", "last", ("initialized", "phase_started", "phase_ended", "resumed"))
BEGUN = Register(
    "begun", "last", ("phase_started", "resumed"), "event <> 'resumed' OR (data->>'$.status') = 'pending'"
)
_PHASE = "entity || '/' || (data->>'$.phase_id')"

PHASES = Projection(
    name="phases",
    kind="playbook",
    version=1,
    events=("initialized", "phase_started", "phase_ended", "phase_summary", "resumed"),
    key=_PHASE,
    spreads=(
        Spread(("initialized",), "$.definition.phases", "entity || '/' || (data->>'$.id')"),
        Spread(("resumed",), "$.phases", _PHASE),
    ),
    columns=(
        Column("playbook_id", "VARCHAR", BIRTH, "@entity", "the playbook"),
        Column("place", "BIGINT", BIRTH, "@place", "its place in the playbook, counted from 1"),
        Column("phase_id", "VARCHAR", BIRTH, "$.id", "its id there"),
        Column("name", "VARCHAR", BIRTH, "$.name", "what it is called", "''"),
        Column(
            "status",
            "VARCHAR",
            PHASE,
            "CASE @event WHEN 'initialized' THEN 'pending' WHEN 'phase_started' THEN 'running'"
            " ELSE $.status END",
            "`pending`, `running`, `completed` or `failed`",
        ),
        Column(
            "started_at",
            "TIMESTAMP",
            BEGUN,
            "CASE @event WHEN 'phase_started' THEN @time END",
            "when it last began",
        ),
        Column(
            "ended_at",
            "TIMESTAMP",
            PHASE,
            "CASE @event WHEN 'phase_ended' THEN @time END",
            "when it ended; null after something went back to a checkpoint",
        ),
    ),
    public=("id", "playbook_id", "place", "phase_id", "name", "status", "started_at", "ended_at", "seq"),
)

SAID = Register("said", "last", ("phase_summary",))

SUMMARIES = Projection(
    name="phase_summaries",
    kind="playbook",
    version=1,
    events=("phase_summary",),
    key=_PHASE,
    columns=(
        Column("playbook_id", "VARCHAR", SAID, "@entity", "the playbook"),
        Column("phase_id", "VARCHAR", SAID, "$.phase_id", "the phase"),
        Column("summary", "VARCHAR", SAID, "$.summary", "what was said of it last"),
        Column("artifacts", "VARCHAR[]", SAID, _ARTIFACTS, "what it left", "[]"),
        Column("intent_instance_id", "VARCHAR", SAID, "$.intent_instance_id", "what the playbook is for"),
        Column("written_by", "VARCHAR", SAID, "$.written_by", "`playbook`, or who wrote it", "'playbook'"),
        Column("written_at", "TIMESTAMP", SAID, "@time", "when"),
    ),
    public=(
        *("id", "playbook_id", "phase_id", "summary", "artifacts", "intent_instance_id", "written_by"),
        *("written_at", "seq"),
    ),
)

# ---- steps -----------------------------------------------------------------------------------------------

STEP = Register("step", "last", ("step_started", "step_ended", "step_skipped", "resumed"))
LAUNCH = Register("launch", "last", ("step_started", "resumed"))
_STEP = "entity || '/' || (data->>'$.step')"


def _left(name: str) -> str:
    """What the end of a step said, or what is remembered of it."""
    return f"coalesce($.{name}, $.result.{name})"


STEPS = Projection(
    name="playbook_steps",
    kind="playbook",
    version=1,
    events=("step_started", "step_ended", "step_skipped", "resumed"),
    key=_STEP,
    spreads=(
        Spread(("resumed",), "$.memory.cells", _STEP),
        Spread(("resumed",), "$.again", "entity || '/' || (data->>'$')"),
    ),
    columns=(
        Column("playbook_id", "VARCHAR", STEP, "@entity", "the playbook"),
        Column("step", "VARCHAR", STEP, "substr(@id, length(@entity) + 2)", "its name"),
        Column(
            "status",
            "VARCHAR",
            STEP,
            "CASE WHEN @event = 'step_started' THEN 'running' WHEN @event = 'step_skipped' THEN 'skipped'"
            " WHEN @event = 'step_ended' THEN $.status ELSE coalesce($.status, 'pending') END",
            "`pending`, `running`, `completed`, `failed`, `cancelled`, `timed_out` or `skipped`",
        ),
        Column("run", "BIGINT", STEP, "$.run", "which run of it that was", "0"),
        Column("does", "VARCHAR", LAUNCH, "$.does", "`execution`, `plan`, `playbook`, `sleep` or `input`"),
        Column("execution_id", "VARCHAR", STEP, _left("execution_id"), "the execution that it ran"),
        Column("plan_id", "VARCHAR", STEP, _left("plan_id"), "or the plan"),
        Column("child_playbook_id", "VARCHAR", STEP, _left("playbook_id"), "or the playbook"),
        Column("exit_code", "BIGINT", STEP, _left("exit_code"), "null where there is none"),
        Column("error", "JSON", STEP, _left("error"), "`{code, message, details}`"),
        Column("outputs", "JSON", STEP, _left("outputs"), "what it left for the steps after it"),
        Column(
            "artifacts",
            "VARCHAR[]",
            STEP,
            f"from_json({_left('artifacts')}, '[\"VARCHAR\"]')",
            "the artifacts that it left",
            "[]",
        ),
        Column("duration_ms", "BIGINT", STEP, _left("duration_ms"), "how long it took"),
        Column(
            "started_at",
            "TIMESTAMP",
            LAUNCH,
            "CASE @event WHEN 'step_started' THEN @time END",
            "when it started; null for what a fork remembers",
        ),
        Column(
            "ended_at",
            "TIMESTAMP",
            STEP,
            "CASE WHEN @event IN ('step_ended', 'step_skipped') THEN @time"
            " ELSE TRY_CAST($.ended_at AS TIMESTAMP) END",
            "when it ended or was skipped",
        ),
    ),
    public=(
        *("id", "playbook_id", "step", "status", "run", "does", "execution_id", "plan_id"),
        *("child_playbook_id", "exit_code", "error", "outputs", "artifacts", "duration_ms"),
        *("started_at", "ended_at", "seq"),
    ),
)

# ---- checkpoints -----------------------------------------------------------------------------------------

CHECKPOINTS = Projection(
    name="checkpoints",
    kind="playbook",
    version=1,
    events=("checkpoint_created",),
    key="data->>'$.checkpoint_id'",
    columns=(
        Column("playbook_id", "VARCHAR", SAVED, "@entity", "the playbook"),
        Column("reason", "VARCHAR", SAVED, "$.reason", "`start`, `step`, `timer` or `command`"),
        Column("at", "BIGINT", SAVED, "$.at", "how many steps it remembers"),
        Column("phase_id", "VARCHAR", SAVED, "$.phase_id", "the phase of the last of them"),
        Column("step", "VARCHAR", SAVED, "$.step", "the last of them"),
        Column("checksum", "VARCHAR", SAVED, "$.checksum", "the SHA-256 of what is stored"),
        Column("size", "BIGINT", SAVED, "$.size", "bytes that are stored"),
        Column("raw_size", "BIGINT", SAVED, "$.raw_size", "bytes before they were compressed"),
        Column("compression", "VARCHAR", SAVED, "$.compression", "how", "'zstd'"),
        Column("schema_version", "BIGINT", SAVED, "$.schema_version", "of what is stored", "1"),
        Column("position", "BIGINT", SAVED, "$.position", "the last event that is in it", "0"),
        Column("created_at", "TIMESTAMP", SAVED, "@time", "when it was made"),
    ),
    public=(
        *("id", "playbook_id", "reason", "at", "phase_id", "step", "checksum", "size", "raw_size"),
        *("compression", "schema_version", "position", "created_at", "seq"),
    ),
)

# ---- questions -------------------------------------------------------------------------------------------

QUESTION = Register("question", "first", ("input_requested",))
REPLY = Register("reply", "last", ("input_answered",))
STAND = Register(
    "stand",
    "last",
    ("input_requested", "input_expired", "input_answered", "step_ended"),
    "event <> 'step_ended' OR (data->>'$.status') = 'cancelled'",
)
_RUN = "entity || '/' || (data->>'$.step') || '/' || coalesce(data->>'$.run', '1')"

INPUTS = Projection(
    name="inputs",
    kind="playbook",
    version=1,
    events=("input_requested", "input_reminded", "input_answered", "input_expired", "step_ended"),
    key=_RUN,
    where="message IS NOT NULL",
    columns=(
        Column("playbook_id", "VARCHAR", QUESTION, "@entity", "the playbook"),
        Column("phase_id", "VARCHAR", QUESTION, "$.phase_id", "the phase"),
        Column("step", "VARCHAR", QUESTION, "$.step", "the step"),
        Column("run", "BIGINT", QUESTION, "$.run", "which run of it"),
        Column("message", "VARCHAR", QUESTION, "$.message", "what is asked"),
        Column("schema", "JSON", QUESTION, "$.schema", "what an answer has to fit", "'{}'"),
        Column(
            "status",
            "VARCHAR",
            STAND,
            "CASE @event WHEN 'input_requested' THEN 'waiting' WHEN 'input_answered' THEN 'answered'"
            " WHEN 'input_expired' THEN 'expired' ELSE 'cancelled' END",
            "`waiting`, `answered`, `expired` or `cancelled`",
        ),
        Column("asked_at", "TIMESTAMP", QUESTION, "@time", "when it was asked"),
        Column("deadline", "TIMESTAMP", QUESTION, "$.deadline", "until when it could be answered"),
        Count("reminders", ("input_reminded",), None, "how often it was reminded of"),
        Column("answer", "VARCHAR", REPLY, "$.value", "the answer: a text as it is, all else as JSON"),
        Column("answered_by", "VARCHAR", REPLY, "$.answered_by", "who answered; `deadline` for the default"),
        Column("answered_at", "TIMESTAMP", REPLY, "@time", "when"),
    ),
    public=(
        *("id", "playbook_id", "phase_id", "step", "run", "message", "schema", "status", "asked_at"),
        *("deadline", "reminders", "answer", "answered_by", "answered_at", "seq"),
    ),
)

PLAYBOOKS = (EXECUTIONS, PHASES, STEPS, CHECKPOINTS, SUMMARIES, INPUTS)
