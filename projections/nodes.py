"""Nodes, folded from what they record of themselves."""

from events import node
from projections.projection import Column, Count, Projection, Register

STARTED = Register("started", "last", ("started",))
STATUS = Register("status", "last", ("started", "stopped"))

NODES = Projection(
    name="nodes",
    kind="node",
    version=2,
    events=tuple(event.name() for event in node.EVENTS),
    columns=(
        Column(
            "status",
            "VARCHAR",
            STATUS,
            "CASE @event WHEN 'started' THEN 'up' WHEN 'stopped' THEN 'down' END",
            "`up` or `down`, as far as the node said so itself",
            "'unknown'",
        ),
        Column("boot", "VARCHAR", STARTED, "$.boot", "the random word of its last start", "''"),
        Column("host", "VARCHAR", STARTED, "$.host", "the machine"),
        Column("pid", "BIGINT", STARTED, "$.pid", "its core process"),
        Column("version", "VARCHAR", STARTED, "$.version", "the version of the program"),
        Column("cores", "BIGINT", STARTED, "$.cores", "processors of the machine"),
        Column("memory_bytes", "BIGINT", STARTED, "$.memory_bytes", "memory of the machine"),
        Column("roles", "VARCHAR[]", STARTED, "from_json($.roles, '[\"VARCHAR\"]')", "what it does", "[]"),
        Column(
            "languages",
            "VARCHAR[]",
            STARTED,
            "from_json($.languages, '[\"VARCHAR\"]')",
            "in which languages it can run code",
            "[]",
        ),
        Column("started_at", "TIMESTAMP", STARTED, "@time", "when it last came up"),
        Column(
            "stopped_at",
            "TIMESTAMP",
            STATUS,
            "CASE @event WHEN 'stopped' THEN @time END",
            "when it went down, if it is down",
        ),
        Count(
            "restarts",
            ("actor_restarted", "process_restarted"),
            STARTED,
            "actors and helper processes made anew since it came up",
        ),
    ),
    public=(
        "id",
        "status",
        "boot",
        "host",
        "pid",
        "version",
        "cores",
        "memory_bytes",
        "roles",
        "languages",
        "started_at",
        "stopped_at",
        "restarts",
        "seq",
    ),
)
