# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""A projection: a table that is nothing but its events, each column declared once.

A column says which event speaks for it (a *register*: the first or the last of some events of the entity) and
what that event says.  Everything else follows from the declaration: the fold of any stretch of the log into
rows (`fold`), for rebuilding and for the past, and how the row that stands and the fold of a new lot become
the new row (`merge`), for living along.

Mostly an entity is one row.  Where it is several (the attempts of an execution, the steps of a plan), `key`
says which of them an event speaks of, and a `Spread` takes apart an event that speaks of many at once.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

_PATH = re.compile(r"\$(?:\.\w+)+")
_ENVELOPE = re.compile(r"@(\w+)")
_OTHER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Register:
    """The event that speaks: the first or the last one of these names, of each entity."""

    name: str
    pick: Literal["first", "last"]
    events: tuple[str, ...]
    where: str = "true"
    """A further condition, in SQL over a row of `events`."""
    reads: tuple[str, ...] = ()
    """Only the bodies of these are read, when not all of them are; reading bodies is what takes time."""

    @property
    def condition(self) -> str:
        """Which events compete, in SQL."""
        return f"(event IN ({_list(self.events)}) AND ({self.where}))"

    def read(self, paths: list[str]) -> str:
        """The fields of a body as a list of texts, in SQL."""
        read = f"json_extract_string(data, [{_list(paths)}])"
        return f"if(event IN ({_list(self.reads)}), {read}, NULL)" if self.reads else read


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and what its event says for it.

    In the SQL of `value`, `$.a.b` is a field of the event's body (as text), and `@time`, `@event` and `@seq`
    are of its envelope; `default` stands where no such event came.  Where an entity has several rows there
    are `@entity`, `@place` and `@id` (of the row) too, and the body of a spread event is the member of the
    list.
    """

    name: str
    type: str
    source: Register | None
    """None: no event speaks for it yet; it is always `default`."""
    value: str
    text: str
    """What it tells, for the reference."""
    default: str = "NULL"
    hidden: bool = False
    """Kept for the program itself, not a part of the public table."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many events of these names came since the register last spoke, that event itself included."""

    name: str
    events: tuple[str, ...]
    since: Register | None
    """None: since ever."""
    text: str
    value: str = "1"
    """What each of them counts for, in SQL over a row of `events`."""
    type: str = "BIGINT"
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """Events that speak of several rows at once: of one row for each member of a list in their body."""

    events: tuple[str, ...]
    path: str
    """Where the list is."""
    key: str
    """Which row a member speaks of, in SQL over `entity` and `data`, the member."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A table with a version: change the declaration, raise the version, and it is folded again."""

    name: str
    kind: str
    """The kind of entity; one row each unless `key` or `spreads` say more."""
    version: int
    events: tuple[str, ...]
    """The events it knows; others change nothing."""
    columns: tuple[Column | Count, ...]
    public: tuple[str, ...]
    """The public columns in order; one that is no column here is given by `extras`."""
    extras: tuple[tuple[str, str], ...] = ()
    """Public columns that are not folded: name and SQL over the row `r`; `{name}` is another table."""
    told: tuple[tuple[str, str], ...] = ()
    """What these columns mean, for the reference."""
    key: str = ""
    """The id of the row that an event speaks of, in SQL over `events`; unsaid the entity, null none."""
    spreads: tuple[Spread, ...] = ()
    where: str = "true"
    """Which of the rows are public, in SQL."""
    together: str = "entity"
    """What has to be folded at once, in SQL over `events`: no row is made of the events of two of them."""
    kept: bool = True
    """Whether its rows lie in the file; else they are folded when somebody asks, and following is free."""

    @property
    def table(self) -> str:
        """Where the rows lie, inside the file."""
        return f"_{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every folded column, hidden ones too."""
        marks = tuple(f"_{register.name}" for register in self._firsts())
        return ("id", *(column.name for column in self.columns), *marks, "born", "seq")

    @property
    def ddl(self) -> str:
        """The table; only a primary key, because secondary indexes of DuckDB are not to be trusted."""
        body = ", ".join(f'"{column.name}" {column.type}' for column in self.columns)
        marks = "".join(f", _{register.name} BIGINT" for register in self._firsts())
        return f"(id VARCHAR PRIMARY KEY, {body}{marks}, born BIGINT, seq BIGINT)"

    def view(
        self,
        rows: str,
        extras: dict[str, str] | None = None,
        others: Callable[[str], str] = lambda name: f"_{name}",
    ) -> str:
        """The public columns over some rows, given in SQL; `others` gives the rows of another table."""
        given = dict(self.extras) | (extras or {})
        given = {name: _OTHER.sub(lambda match: others(match[1]), sql) for name, sql in given.items()}
        shown = ", ".join(
            f'{given[name]} AS "{name}"' if name in given else f'"{name}"' for name in self.public
        )
        return f"SELECT {shown} FROM {rows}" + ("" if self.where == "true" else f" WHERE {self.where}")

    def fold(
        self,
        events: str,
        low: str = "",
        high: str = "",
        marks: bool = False,
        seen: Collection[str] | None = None,
    ) -> str:
        """The rows that the events of a stretch make; `marks` adds, per register, which event spoke.

        With `seen`, the events that there are in the stretch: nobody looks for the others.
        """
        bounds = (f" AND seq >= {low}" if low else "") + (f" AND seq <= {high}" if high else "")
        source = f"{events} WHERE kind = {quoted(self.kind)}{bounds}"
        registers = self._registers()
        parts: list[str] = []
        key, envelope, same = "entity", "seq, time, event", ""
        if self.several:
            parts.append(f"spread AS ({self._spread(source)})")
            source, key, envelope = "spread WHERE id IS NOT NULL", "id", "seq, time, event, id, entity, place"
            same = " AND {0}.id = heads.entity"
        silent = {each.name for each in registers if seen is not None and not {*each.events} & {*seen}}
        heads = "".join(
            f", NULL::BIGINT AS _{register.name}"
            if register.name in silent
            else f", {'min' if register.pick == 'first' else 'max'}(seq) FILTER ({register.condition})"
            f" AS _{register.name}"
            for register in registers
        )
        known = _list(self.events)
        parts.append(
            f"heads AS (SELECT {key} AS entity, min(seq) AS born, max(seq) AS last{heads} FROM {source}"
            f" AND event IN ({known}) GROUP BY {key})"
        )
        joins: list[str] = []
        paths = {register.name: self._paths(register) for register in registers}
        for register in registers:
            name = register.name
            if name in silent:
                continue
            read = f", {register.read(paths[name])} AS x" if paths[name] else ""
            parts.append(f"{name} AS (SELECT {envelope}{read} FROM {source} AND {register.condition})")
            joins.append(f"LEFT JOIN {name} ON {name}.seq = heads._{name}{same.format(name)}")
        for count in self._counts():
            if seen is not None and not {*count.events} & {*seen}:
                silent.add(f"count {count.name}")
                continue
            names = _list(count.events)
            parts.append(
                f"count_{count.name} AS (SELECT e.entity, sum(e.n)::BIGINT AS n FROM (SELECT {key} AS entity,"
                f" seq, {count.value} AS n FROM {source} AND event IN ({names})) e JOIN heads h"
                f" ON h.entity = e.entity{_since(count)} GROUP BY e.entity)"
            )
            joins.append(f"LEFT JOIN count_{count.name} ON count_{count.name}.entity = heads.entity")
        values = ", ".join(
            f'{self._value(column, paths, silent)} AS "{column.name}"' for column in self.columns
        )
        told = registers if marks else self._firsts()
        shown = "".join(f", heads._{register.name} AS _{register.name}" for register in told)
        return (
            f"WITH {', '.join(parts)} SELECT heads.entity AS id, {values}{shown}, heads.born AS born,"
            f" heads.last AS seq FROM heads {' '.join(joins)}"
        )

    @property
    def several(self) -> bool:
        """Whether an entity can have several rows."""
        return bool(self.key or self.spreads)

    def _spread(self, source: str) -> str:
        """Every event as often as it speaks of a row."""
        lists = tuple(name for spread in self.spreads for name in spread.events)
        known = _list(name for name in self.events if name not in lists)
        parts = [
            f"SELECT seq, time, event, entity, {self.key or 'entity'} AS id, 0 AS place, data FROM {source}"
            f" AND event IN ({known})"
        ]
        for spread in self.spreads:
            members = f"from_json(json_extract(data, {quoted(spread.path)}), '[\"JSON\"]')"
            parts.append(
                f"SELECT seq, time, event, entity, {spread.key} AS id, place, data FROM (SELECT seq, time,"
                f" event, entity, unnest(members) AS data, generate_subscripts(members, 1) AS place FROM"
                f" (SELECT seq, time, event, entity, {members} AS members FROM {source}"
                f" AND event IN ({_list(spread.events)})))"
            )
        return " UNION ALL ".join(parts)

    def merge(self, events: str, low: str, high: str, table: str, seen: Collection[str] | None = None) -> str:
        """The rows that a new lot changes: what stands, combined with the fold of the lot."""
        columns = ", ".join(f'{self._merged(column)} AS "{column.name}"' for column in self.columns)
        firsts = [f"_{register.name}" for register in self._firsts()]
        marks = "".join(f", coalesce(old.{mark}, new.{mark}) AS {mark}" for mark in firsts)
        lot = self.fold(events, low, high, marks=True, seen=seen)
        return (
            f"SELECT new.id, {columns}{marks}, least(old.born, new.born) AS born,"
            f" greatest(old.seq, new.seq) AS seq FROM ({lot}) new"
            f" LEFT JOIN {table} old ON old.id = new.id"
        )

    def _merged(self, column: Column | Count) -> str:
        name = f'"{column.name}"'
        if isinstance(column, Count):
            since = "true" if column.since is None else f"new._{column.since.name} IS NULL"
            return f"new.{name} + if({since}, coalesce(old.{name}, 0), 0)"
        if column.source is None:
            return f"new.{name}"
        mark = column.source.name
        if column.source.pick == "first":
            return f"CASE WHEN old._{mark} IS NOT NULL THEN old.{name} ELSE new.{name} END"
        return f"CASE WHEN new._{mark} IS NULL AND old.id IS NOT NULL THEN old.{name} ELSE new.{name} END"

    def _registers(self) -> list[Register]:
        found = {
            column.source.name: column.source
            for column in self.columns
            if isinstance(column, Column) and column.source
        }
        found |= {count.since.name: count.since for count in self._counts() if count.since}
        return list(found.values())

    def _firsts(self) -> list[Register]:
        return [register for register in self._registers() if register.pick == "first"]

    def _counts(self) -> list[Count]:
        return [column for column in self.columns if isinstance(column, Count)]

    def _paths(self, register: Register) -> list[str]:
        found: dict[str, None] = {}
        for column in self.columns:
            if isinstance(column, Column) and column.source == register:
                found |= dict.fromkeys(_PATH.findall(column.value))
        return list(found)

    def _value(self, column: Column | Count, paths: dict[str, list[str]], silent: Collection[str]) -> str:
        if isinstance(column, Count):
            if f"count {column.name}" in silent:
                return "0::BIGINT"
            return f"coalesce(count_{column.name}.n, 0)"
        if column.source is None:
            return f"({column.default})::{column.type}"
        name = column.source.name
        if name in silent:
            return f"({column.default})::{column.type}"
        index = {path: position + 1 for position, path in enumerate(paths[name])}
        value = _PATH.sub(lambda match: f"{name}.x[{index[match[0]]}]", column.value)
        value = _ENVELOPE.sub(lambda match: f"{name}.{match[1]}", value)
        value = f"TRY_CAST({value} AS {column.type})"
        return value if column.default == "NULL" else f"coalesce({value}, {column.default})"


@dataclass(frozen=True, slots=True)
class Selection:
    """A public table that is some rows of another one, under names of its own."""

    name: str
    of: Projection
    where: str
    """Which rows, in SQL over the folded columns."""
    columns: tuple[tuple[str, str], ...]
    """The public columns: name, and what it is in the other table."""

    def view(self, rows: str) -> str:
        """The public columns over the rows of the other table, given in SQL."""
        shown = ", ".join(f'{value} AS "{name}"' for name, value in self.columns)
        return f"SELECT {shown} FROM {rows} WHERE {self.where}"


def _since(count: Count) -> str:
    return "" if count.since is None else f" AND e.seq >= coalesce(h._{count.since.name}, 0)"


def quoted(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Iterable[str]) -> str:
    return ", ".join(map(quoted, texts))
