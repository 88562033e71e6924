# ruff: noqa: S608 -- SQL is made of our own declarations here
"""A table folded anew from all events, piece by piece where there are too many for the memory.

To fold is to join what every register says, and a join of ten million events does not fit into the memory of
a process that should stay small.  So the events are put into an order in which a part of the entities can be
read alone, and the parts are folded one after the other.
"""

import duckdb

from projections.projection import Projection

PART = 300_000
"""Events that are folded at once."""


def anew(con: duckdb.DuckDBPyConnection, projection: Projection) -> None:
    """Make the table of a projection again from the events, in the transaction of `con`."""
    table = f"store.{projection.table}"
    con.execute(f"DROP TABLE IF EXISTS {table}")
    counted = con.execute(f"SELECT count(*) FROM store._events WHERE kind = '{projection.kind}'").fetchone()
    parts = -(-(counted[0] if counted else 0) // PART)
    if parts <= 1:
        con.execute(f"CREATE TABLE {table} {projection.ddl}")
        con.execute(f"INSERT INTO {table} BY NAME {projection.fold('store._events')}")
        return
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE parts AS SELECT seq, time, kind, event, entity, data,"
        f" hash({projection.together}) % {parts} AS part FROM store._events"
        f" WHERE kind = '{projection.kind}' ORDER BY part"
    )
    # An index that grows with every part costs more memory than one that is made at the end.
    con.execute(f"CREATE TABLE {table} {projection.ddl.replace(' PRIMARY KEY', '', 1)}")
    for number in range(parts):
        source = f"(SELECT * FROM temp.parts WHERE part = {number})"
        con.execute(f"INSERT INTO {table} BY NAME {projection.fold(source)}")
    con.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
    con.execute("DROP TABLE temp.parts")
