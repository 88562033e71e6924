"""What is described is what is said."""

import json
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

from bus import subjects
from events import codec, service
from interfaces import describe

ALL = describe.schemas()


def fits(body: dict[str, Any], name: str) -> bool:
    validator: Any = jsonschema.Draft202012Validator(ALL[name])
    return validator.is_valid(body)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(ALL[name])


def test_every_verb_and_event_is_described() -> None:
    for verb in service.VERBS:
        assert {f"{verb.kind}.{verb.name}.request", f"{verb.kind}.{verb.name}.reply"} <= ALL.keys()
    for kind in codec.KINDS:
        assert {f"{kind}.{event.name()}" for event in codec.events_of(kind)} <= ALL.keys()


@pytest.mark.parametrize(
    ("body", "fine"),
    [
        ({"shell": {"command": "ls"}}, True),
        ({"shell": {"command": "ls"}, "labels": ["a"], "stdin": {"blob": "0" * 64}}, True),
        ({"shel": {"command": "ls"}}, False),
        ({"exec": {"args": []}}, False),
    ],
)
def test_a_schema_tells_right_from_wrong(body: dict[str, Any], fine: bool) -> None:
    assert fits(body, "execution.submit.request") is fine


def test_a_stored_event_fits_its_schema() -> None:
    from events.execution import Queued
    from events.spec import Shell, Spec

    body = json.loads(codec.encode(Queued(spec=Spec(shell=Shell(command="ls")), digest="d", taken_by="n")))
    assert fits(body, "execution.queued")


def test_the_whole_map_of_subjects_is_listed() -> None:
    listed = describe.channels()
    rooms = {pattern.split(".")[1] for pattern in listed}
    assert {"evt", "cmd", "inbox", "out", "progress", "tel", "dead", "node", "lease"} <= rooms
    assert all(pattern in (subjects.__doc__ or "") for pattern in listed)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = describe.asyncapi()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            inside = cast("dict[str, Any]", value)
            if isinstance(reference := inside.get("$ref"), str):
                place: Any = document
                for step in reference.removeprefix("#/").split("/"):
                    place = place[step]
            for each in inside.values():
                walk(each)
        elif isinstance(value, list):
            for each in cast("list[Any]", value):
                walk(each)

    walk(document)
    assert "brain.cmd.execution.submit" in json.dumps(document)
    assert "brain.evt" not in json.dumps(document["channels"])


def test_what_is_no_more_is_taken_away(tmp_path: Path) -> None:
    describe.write(tmp_path)
    (tmp_path / "schemas" / "gone.json").write_text("{}")
    written = describe.write(tmp_path)
    assert not (tmp_path / "schemas" / "gone.json").exists()
    assert {path.name for path in written} >= {"asyncapi.json", "errors.json", "subjects.json"}
