"""What is counted for a monitoring system: two questions, whatever there is to count."""

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
"""Upper bounds of durations, in seconds: the steps that Prometheus proposes, and on to four hours."""

_WITHIN = " ".join(f"WHEN duration_ms <= {bound * 1000:g} THEN {n}" for n, bound in enumerate(BUCKETS))

# One question for all of it takes eight times as long: the fewer columns, the faster DuckDB groups by them.
# And they are sorted elsewhere: a sort waits for every thread, on a busy machine a tenth of a second.
EXECUTIONS = """
SELECT module, status, priority, held IS NULL, count(*), sum(greatest(attempt - 1, 0))::BIGINT,
    epoch_ms(min(queued_at))
FROM executions GROUP BY ALL"""
"""Module, status, priority, whether it waits for nothing else; how many there are, how many attempts they had
after the first, and since when the oldest is queued (ms since 1970)."""

REST = f"""
SELECT 'duration', module, (CASE {_WITHIN} ELSE {len(BUCKETS)} END)::VARCHAR AS place, count(*),
    sum(duration_ms)::BIGINT FROM executions WHERE duration_ms IS NOT NULL GROUP BY module, place
UNION ALL SELECT 'held', module, if(status = 'scheduled', 'time', held->>'$.reason') AS why, count(*), 0
    FROM executions WHERE held IS NOT NULL GROUP BY module, why
UNION ALL SELECT 'event', kind, event, count(*), 0 FROM events GROUP BY kind, event
UNION ALL SELECT 'finding', type, NULL, count(*), 0 FROM findings WHERE closed_at IS NULL GROUP BY type
UNION ALL SELECT 'folded', NULL, NULL, epoch_ms(time), 0 FROM projection_bookmarks WHERE name = 'events'"""  # noqa: S608 -- made of our own numbers
"""Durations by module and place among the buckets, with their sum (ms); what waits by module and for what;
events by kind and name; open findings by type; of when the last event in the tables is (ms since 1970)."""
