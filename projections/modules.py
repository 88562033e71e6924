"""Modules, their workers and their plugins, folded from what the log says of them."""

from events import module, plugin
from projections.projection import Column, Count, Projection, Register

DECLARED = Register("declared", "last", ("declared",))
STATUS = Register(
    "status", "last", ("declared", "started", "stopped", "paused", "resumed", "broken", "restarted")
)
UP = Register("up", "last", ("started",))
SCALED = Register("scaled", "last", ("declared", "scaled"))

_STATUS = """CASE @event
    WHEN 'started' THEN 'running' WHEN 'resumed' THEN 'running' WHEN 'restarted' THEN 'running'
    WHEN 'broken' THEN 'error' WHEN 'declared' THEN NULL ELSE @event END"""

MODULES = Projection(
    name="modules",
    kind="module",
    version=1,
    events=tuple(event.name() for event in module.EVENTS),
    columns=(
        Column(
            "state",
            "VARCHAR",
            Register("state", "last", ("started", "stopped", "paused", "resumed", "broken", "restarted")),
            _STATUS,
            "`running`, `paused`, `error` or `stopped`; null before it was first up",
        ),
        Column("reason", "VARCHAR", STATUS, "$.reason", "why it stands where it stands"),
        Column("category", "VARCHAR", DECLARED, "$.profile.category", "its category", "'core'"),
        Column("priority", "VARCHAR", DECLARED, "$.profile.priority", "how important it is", "'medium'"),
        Column(
            "workers",
            "BIGINT",
            SCALED,
            "CASE @event WHEN 'scaled' THEN $.workers ELSE coalesce($.profile.workers, '1') END",
            "how many workers it is to have",
            "0",
        ),
        Column("isolation", "VARCHAR", DECLARED, "$.profile.isolation", "`shared` or `process`", "'shared'"),
        Column("profile", "JSON", DECLARED, "$.profile", "all that its plugin and the settings say of it"),
        Column("started_at", "TIMESTAMP", UP, "@time", "when it last came up"),
        Count("restarts", ("restarted",), None, "how often all its workers were made anew"),
        Count("scalings", ("scaled",), None, "how often it was scaled"),
    ),
    public=(
        "id",
        "state",
        "reason",
        "category",
        "priority",
        "workers",
        "isolation",
        "profile",
        "started_at",
        "restarts",
        "scalings",
        "seq",
    ),
)

BORN = Register("born", "first", ("worker_started",))
GONE = Register("gone", "last", ("worker_ended",))

WORKERS = Projection(
    name="workers",
    kind="module",
    version=1,
    kept=False,
    events=("worker_started", "worker_ended"),
    key="data->>'$.host'",
    columns=(
        Column("module", "VARCHAR", BORN, "@entity", "whose workers they are"),
        Column("node", "VARCHAR", BORN, "$.node", "the node that started it"),
        Column("pid", "BIGINT", BORN, "$.pid", "its process"),
        Column("workers", "VARCHAR[]", BORN, "from_json($.workers, '[\"VARCHAR\"]')", "its workers", "[]"),
        Column("started_at", "TIMESTAMP", BORN, "@time", "when it was ready"),
        Column("ended_at", "TIMESTAMP", GONE, "@time", "when it was gone; null while it runs"),
        Column("reason", "VARCHAR", GONE, "$.reason", "why it ended"),
        Column(
            "expected",
            "BOOLEAN",
            GONE,
            "CASE @event WHEN 'worker_ended' THEN coalesce($.expected, 'true') END",
            "whether it was told to end, or had reached one of its limits",
        ),
    ),
    public=("id", "module", "node", "pid", "workers", "started_at", "ended_at", "reason", "expected", "seq"),
)

REGISTERED = Register("registered", "last", ("registered",))

PLUGINS = Projection(
    name="plugins",
    kind="plugin",
    version=1,
    events=tuple(event.name() for event in plugin.EVENTS),
    columns=(
        Column(
            "loaded",
            "BOOLEAN",
            Register("loaded", "last", ("registered", "unregistered")),
            "@event = 'registered'",
            "whether it takes jobs",
            "false",
        ),
        Column("version", "VARCHAR", REGISTERED, "$.manifest.version", "its version", "'0'"),
        Column("source", "VARCHAR", REGISTERED, "$.manifest.source", "where its code comes from"),
        Column("manifest", "JSON", REGISTERED, "$.manifest", "all that it says of itself"),
        Column("registered_at", "TIMESTAMP", REGISTERED, "@time", "when this version was loaded"),
    ),
    public=("id", "loaded", "version", "source", "manifest", "registered_at", "seq"),
)
