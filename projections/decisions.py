"""Decisions about modules: what was decided, when, why, and what was seen."""

from events import decision
from projections.projection import Column, Projection, Register

MADE = Register("made", "first", ("made",))

DECISIONS = Projection(
    name="decisions",
    kind="decision",
    version=1,
    events=tuple(event.name() for event in decision.EVENTS),
    columns=(
        Column("time", "TIMESTAMP", MADE, "@time", "when it was decided"),
        Column(
            "type",
            "VARCHAR",
            MADE,
            "$.type",
            "`scale_up scale_down_suggested scale_down self_heal restart refused pause resume`",
        ),
        Column("module", "VARCHAR", MADE, "$.module", "the module that it is about"),
        Column("context", "VARCHAR", MADE, "$.context", "why, in a sentence"),
        Column(
            "data",
            "JSON",
            MADE,
            "$.data",
            "what follows, and of the scaler the policy and all that it saw: `{decision, policy, snapshot}`",
            "'{}'::JSON",
        ),
    ),
    public=("seq", "time", "type", "module", "context", "data", "id"),
)
