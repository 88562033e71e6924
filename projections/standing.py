"""What stands until it is changed: schedules, limits and templates, folded from their events."""

from events import limit, schedule, template
from projections.projection import Column, Count, Projection, Register

# ---- schedules -------------------------------------------------------------------------------------------

CREATED = Register("created", "first", ("created",))
STATE = Register("state", "last", ("created", "paused", "resumed", "deleted"))
NEXT = Register("next", "last", ("created", "resumed", "ticked"))
_DID = "coalesce(data->>'$.execution_id', data->>'$.plan_id')"
LAST = Register("last", "last", ("ticked",), f"{_DID} IS NOT NULL")

SCHEDULES = Projection(
    name="schedules",
    kind="schedule",
    version=1,
    events=tuple(event.name() for event in schedule.EVENTS),
    columns=(
        Column(
            "state",
            "VARCHAR",
            STATE,
            "CASE WHEN @event IN ('created', 'resumed') THEN 'active' ELSE @event END",
            "its state",
            hidden=True,
        ),
        Column("description", "VARCHAR", CREATED, "$.description", "what its maker said it is"),
        Column(
            "times", "JSON", CREATED, "$.when", "when it ticks: `{at, every_ms, cron, zone, starts, ends}`"
        ),
        Column(
            "what",
            "VARCHAR",
            CREATED,
            "$.what",
            "what it submits: `submit`, `plan` or `template`",
            "'submit'",
        ),
        Column("spec", "JSON", CREATED, "$.spec", "what every tick runs, where that is an execution"),
        Column("request", "JSON", CREATED, "$.request", "what is asked at every tick, where it is a plan"),
        Column(
            "catch_up", "VARCHAR", CREATED, "$.catch_up", "`skip`, `once` or `all` after downtime", "'once'"
        ),
        Column(
            "overlap",
            "VARCHAR",
            CREATED,
            "$.overlap",
            "`allow`, `skip`, `cancel` or `queue` while the last one runs",
            "'allow'",
        ),
        Column("created_at", "TIMESTAMP", CREATED, "@time", "when it was made"),
        Column("coming", "TIMESTAMP", NEXT, "$.next", "the next tick", hidden=True),
        Column("last_tick", "TIMESTAMP", LAST, "$.tick", "the last tick that submitted something"),
        Column(
            "last_id",
            "VARCHAR",
            LAST,
            "coalesce($.execution_id, $.plan_id)",
            "the execution or the plan that it submitted",
        ),
        Count("runs", ("ticked",), None, "how often it submitted something", f"if({_DID} IS NULL, 0, 1)"),
        Count(
            "skips",
            ("ticked",),
            None,
            "how often ticks were passed over",
            f"if({_DID} IS NULL, 1, 0)",
        ),
    ),
    public=(
        "id",
        "status",
        "description",
        "times",
        "what",
        "spec",
        "request",
        "catch_up",
        "overlap",
        "next_at",
        "last_tick",
        "last_id",
        "runs",
        "skips",
        "created_at",
        "seq",
    ),
    extras=(
        ("status", "CASE WHEN r.state = 'active' AND r.coming IS NULL THEN 'done' ELSE r.state END"),
        ("next_at", "CASE WHEN r.state = 'active' THEN r.coming END"),
    ),
    told=(
        ("status", "`active`, `paused`, `done` when no tick is left, or `deleted`"),
        ("next_at", "the next tick, while it is active"),
    ),
)

# ---- limits ----------------------------------------------------------------------------------------------

SET = Register("set", "last", ("set", "removed", "opened"))
NAMED = Register("named", "first", ("set", "opened"))
CLEAR = Register("clear", "last", ("removed", "opened"))
_USED = """CASE event
    WHEN 'opened' THEN coalesce(len(json_keys(data, '$.holders')), 0)
    WHEN 'returned' THEN -json_array_length(data, '$.ids')::BIGINT
    WHEN 'removed' THEN 0
    ELSE json_array_length(data, '$.ids')::BIGINT END"""

_LIMIT = "regexp_replace(entity, '--[0-9]+$', '')"

LIMITS = Projection(
    name="limits",
    kind="limit",
    version=1,
    events=tuple(event.name() for event in limit.EVENTS),
    key=_LIMIT,
    together=_LIMIT,
    columns=(
        Column("scope", "VARCHAR", NAMED, "$.on", "what it limits: `node`, `module` or `key`"),
        Column("target", "VARCHAR", NAMED, "$.target", "the node's id, the module's name, or the key"),
        Column(
            "active",
            "BOOLEAN",
            SET,
            "CASE @event WHEN 'set' THEN 'true' WHEN 'removed' THEN 'false'"
            " ELSE coalesce($.force, 'false') END",
            "whether it is in force",
            "false",
        ),
        Column("max", "BIGINT", SET, "$.max", "how many may be at it at once; null: as many as like"),
        Column("rate_count", "BIGINT", SET, "$.rate.count", "how many may begin"),
        Column("rate_per_ms", "BIGINT", SET, "$.rate.per_ms", "in any stretch of so many milliseconds"),
        Count(
            "used",
            ("opened", "granted", "counted", "returned", "removed"),
            CLEAR,
            "how many are at it",
            _USED,
        ),
        Count("pages", ("opened",), None, "how many pages it has beyond the first"),
        Column("changed_at", "TIMESTAMP", SET, "@time", "when it was last set, removed or carried on"),
    ),
    public=(
        "id",
        "scope",
        "target",
        "active",
        "max",
        "rate_count",
        "rate_per_ms",
        "used",
        "pages",
        "changed_at",
        "seq",
    ),
)

# ---- templates -------------------------------------------------------------------------------------------

SAVED = Register("saved", "last", ("saved",))
FIRST = Register("first", "first", ("saved",))
KEPT = Register("kept", "last", ("saved", "deleted"))

TEMPLATES = Projection(
    name="templates",
    kind="template",
    version=1,
    events=tuple(event.name() for event in template.EVENTS),
    columns=(
        Column(
            "status",
            "VARCHAR",
            KEPT,
            "CASE @event WHEN 'saved' THEN 'kept' ELSE 'deleted' END",
            "`kept` or `deleted`",
        ),
        Column("version", "BIGINT", SAVED, "$.version", "its last version"),
        Column("description", "VARCHAR", SAVED, "$.definition.description", "what it is for"),
        Column("strategy", "VARCHAR", SAVED, "$.definition.strategy", "how it goes about it", "'serial'"),
        Column("params", "JSON", SAVED, "$.definition.params", "its parameters with their types"),
        Column("definition", "JSON", SAVED, "$.definition", "the plan"),
        Column("comment", "VARCHAR", SAVED, "$.comment", "what was said when it was saved"),
        Column("created_at", "TIMESTAMP", FIRST, "@time", "when it was first saved"),
        Column("saved_at", "TIMESTAMP", SAVED, "@time", "when it was last saved"),
    ),
    public=(
        "id",
        "status",
        "version",
        "description",
        "strategy",
        "params",
        "definition",
        "comment",
        "created_at",
        "saved_at",
        "seq",
    ),
)
