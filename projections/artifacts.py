"""Artifacts and workspaces, folded from their events."""

from events import artifact, workspace
from projections.projection import Column, Count, Projection, Register

FIRST = Register("first", "first", ("registered",))
SAID = Register("said", "last", ("registered",))
STATE = Register("state", "last", ("registered", "removed"))
TOUCHED = Register("touched", "last", tuple(event.name() for event in artifact.EVENTS))
_COUNTED = "CASE event WHEN 'referenced' THEN 1 ELSE -coalesce((data->>'$.count')::BIGINT, 0) END"

ARTIFACTS = Projection(
    name="artifacts",
    kind="artifact",
    version=1,
    events=tuple(event.name() for event in artifact.EVENTS),
    columns=(
        Column(
            "status",
            "VARCHAR",
            STATE,
            "CASE @event WHEN 'registered' THEN 'kept' ELSE 'removed' END",
            "`kept`, or `removed` when its content is gone",
        ),
        Column("name", "VARCHAR", SAID, "$.title", "what whoever registered it last calls it"),
        Column("size", "BIGINT", SAID, "$.size", "bytes"),
        Column("media_type", "VARCHAR", SAID, "$.media_type", "what it is", "'application/octet-stream'"),
        Column("backend", "VARCHAR", SAID, "$.backend", "who keeps the content", "'local'"),
        Column("node", "VARCHAR", SAID, "$.node", "the node that wrote it", "''"),
        Column("workspace_id", "VARCHAR", SAID, "$.workspace_id", "the workspace it lies in", "'default'"),
        Column("labels", "VARCHAR[]", SAID, "from_json($.labels, '[\"VARCHAR\"]')", "its labels", "[]"),
        Column("metadata", "JSON", SAID, "$.metadata", "what else was said of it", "'{}'"),
        Count("references", ("referenced", "released"), None, "how many need it", _COUNTED),
        Column("created_at", "TIMESTAMP", FIRST, "@time", "when it was first registered"),
        Column("touched_at", "TIMESTAMP", TOUCHED, "@time", "when something was last said of it"),
        Column(
            "removed_at",
            "TIMESTAMP",
            STATE,
            "CASE @event WHEN 'removed' THEN @time END",
            "when its content was removed",
        ),
    ),
    public=(
        *("id", "status", "name", "size", "media_type", "backend", "node", "workspace_id", "labels"),
        *("metadata", "references", "created_at", "touched_at", "removed_at", "seq"),
    ),
)

OPENED = Register("opened", "first", ("opened",))

WORKSPACES = Projection(
    name="workspaces",
    kind="workspace",
    version=1,
    events=tuple(event.name() for event in workspace.EVENTS),
    columns=(
        Column("path", "VARCHAR", OPENED, "$.path", "its folder; null: under the data folder of each node"),
        Column("description", "VARCHAR", OPENED, "$.description", "what its maker said it is for"),
        Column("created_at", "TIMESTAMP", OPENED, "@time", "when it was opened"),
    ),
    public=("id", "path", "description", "created_at", "seq"),
)
