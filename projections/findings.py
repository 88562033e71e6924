"""Findings: what a person should look at, open or over."""

from events import finding
from projections.projection import Column, Projection, Register

OPENED = Register("opened", "last", ("opened",))
STATE = Register("state", "last", ("opened", "closed"))

FINDINGS = Projection(
    name="findings",
    kind="finding",
    version=1,
    events=tuple(event.name() for event in finding.EVENTS),
    columns=(
        Column("type", "VARCHAR", OPENED, "$.type", "what it is, in one word"),
        Column("about", "VARCHAR", OPENED, "$.about", "what it is about"),
        Column("text", "VARCHAR", OPENED, "$.text", "what was seen and what to do"),
        Column("opened_at", "TIMESTAMP", OPENED, "@time", "when it was seen"),
        Column(
            "closed_at",
            "TIMESTAMP",
            STATE,
            "CASE @event WHEN 'closed' THEN @time END",
            "when it was over; null while it stands",
        ),
        Column("data", "JSON", OPENED, "$.data", "what it was seen by", "'{}'::JSON"),
    ),
    public=("id", "type", "about", "text", "opened_at", "closed_at", "data", "seq"),
)
