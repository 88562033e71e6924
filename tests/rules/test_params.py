"""Values from outside: their types, and how they get into what is run without becoming a part of it."""

import os
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import params
from events.errors import Validation
from events.params import Param, Reference
from events.spec import Exec, Shell, Submit

DECLARED = {
    "target": Param(default="dev"),
    "count": Param(type="integer"),
    "ratio": Param(type="number", default=0.5),
    "draft": Param(type="boolean", default=False),
    "files": Param(type="list", required=False),
}


def test_defaults_stand_in_for_what_is_not_given() -> None:
    assert params.resolve(DECLARED, {"count": 3}) == {
        "target": "dev",
        "count": 3,
        "ratio": 0.5,
        "draft": False,
        "files": None,
    }


@pytest.mark.parametrize(
    ("given", "said", "field"),
    [
        ({}, "parameter 'count' is missing: it needs an integer", "params.count"),
        ({"count": "3"}, "parameter 'count' must be an integer, not the string '3'", "params.count"),
        ({"count": True}, "parameter 'count' must be an integer, not the boolean true", "params.count"),
        ({"count": 2.5}, "parameter 'count' must be an integer, not the number 2.5", "params.count"),
        ({"count": 1, "target": 5}, "parameter 'target' must be a string, not the number 5", "params.target"),
        (
            {"count": 1, "draft": "no"},
            "parameter 'draft' must be a boolean, not the string 'no'",
            "params.draft",
        ),
        ({"count": 1, "files": "a"}, "parameter 'files' must be a list, not the string 'a'", "params.files"),
        ({"count": 1, "ratio": []}, "parameter 'ratio' must be a number, not the list []", "params.ratio"),
        ({"cuont": 1}, "unknown parameter 'cuont', did you mean 'count'?", "params.cuont"),
        ({"xyz": 1}, "unknown parameter 'xyz', there are count, draft, files, ratio, target", "params.xyz"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(given: dict[str, Any], said: str, field: str) -> None:
    with pytest.raises(Validation) as caught:
        params.resolve(DECLARED, given)
    assert caught.value.message == f"Validation error: {said}"
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("target", "5", "5"),
        ("count", "5", 5),
        ("ratio", "5", 5),
        ("draft", "true", True),
        ("files", "a, b", ["a", "b"]),
        ("files", '["a b", 1]', ["a b", 1]),
        ("files", "7", ["7"]),
    ],
)
def test_text_from_a_command_line_becomes_a_value(name: str, text: str, value: Any) -> None:
    assert params.read(DECLARED[name], name, text) == value
    with pytest.raises(Validation, match="must be an integer"):
        params.read(DECLARED["count"], "count", "five")


def test_a_default_of_another_type_is_found() -> None:
    found = list(params.check({"a": Param(type="integer", default="x"), "B": Param()}))
    assert [field for field, _ in found] == ["params.a.default", "params.B"]


# ---- filling in ------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {"params.x": "v w", "params.l": ["a b", 2], "params.n": 3, "params.o": {"k": None}}


def look(reference: Reference) -> Any:
    return VALUES[str(reference)]


def test_values_become_arguments_and_environment() -> None:
    asked = Submit(
        exec=Exec(
            program="echo", args=["${params.x}", "${params.l}", "n=${params.n} ${params.o}", "${HOME}"]
        ),
        env={"A": "${params.n}", "B": "$${params.n}"},
        description="to ${params.x}",
        labels=["l${params.n}"],
    )
    filled = params.fill(asked, look)
    assert filled.exec == Exec(program="echo", args=["v w", "a b", "2", 'n=3 {"k":null}', "${HOME}"])
    assert filled.env == {"A": "3", "B": "${params.n}"}
    assert (filled.description, filled.labels) == ("to v w", ["l3"])


@pytest.mark.parametrize("field", ["code", "stdin"])
def test_what_an_interpreter_reads_takes_values_only_when_that_is_said(field: str) -> None:
    command = {"shell": Shell(command="cat")} if field == "stdin" else {}
    with pytest.raises(Validation, match=r"\$\{params.x:raw\}") as caught:
        params.fill(Submit(**{field: "print(${params.x})"}, **command), look)  # type: ignore[arg-type] -- any fields
    assert caught.value.details["field"] == field
    filled = params.fill(Submit(**{field: "print(${params.n:raw}) $${params.x} ${x.y}"}, **command), look)  # type: ignore[arg-type] -- any fields
    assert getattr(filled, field) == "print(3) ${params.x} ${x.y}"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("printf %s ${params.x}", "{}"),
        ("printf %s a${params.x}b", "a{}b"),
        ('printf %s "a ${params.x} b"', "a {} b"),
        ("printf %s 'a ${params.x} b'", "a {} b"),
        ('printf %s "$(printf %s "${params.x}")"', "{}"),
        ("printf %s `printf x`${params.x}", "x{}"),
        ("# don't ${params.x}\nprintf %s ${params.x}", "{}"),
        ("cat <<END\na \"${params.x}\" b\nEND\nprintf %s '${params.x}'", 'a "{}" b\n{}'),
        ("cat <<-END\n\t${params.x}\n\tEND\nprintf %s ${params.x}", "{}\n{}"),
        ("printf %s $((1<<2))${params.x}", "4{}"),
        ("printf %s \\'${params.x}\\\"", "'{}\""),
        ("printf %s $${params.x}x || true; printf %s ${params.x}", None),
    ],
)
@settings(max_examples=12, deadline=None)
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20))
def test_in_a_line_for_a_shell_a_value_is_one_word_whatever_it_is(
    line: str, shown: str | None, value: str
) -> None:
    value = f"{value}'\"$(exit 9)`exit 9`;* a  b"
    filled = params.fill(Submit(shell=Shell(command=line)), lambda _: value)
    assert filled.shell is not None
    if shown is None:
        assert "${params.x}x" in filled.shell.command
        return
    env = {"PATH": os.environ["PATH"], **filled.env}
    done = subprocess.run(["/bin/sh", "-c", filled.shell.command], env=env, capture_output=True, check=True)
    assert done.stdout.decode() == shown.replace("{}", value)


def test_where_no_variable_can_stand_it_is_refused() -> None:
    for command, shell in (("cat <<'END'\n${params.x}\nEND", "/bin/sh"), ("echo ${params.x}", "pwsh")):
        with pytest.raises(Validation) as caught:
            params.fill(Submit(shell=Shell(command=command, shell=shell)), look)
        assert caught.value.details["field"] == "shell.command"
    raw = params.fill(Submit(shell=Shell(command="echo ${params.x:raw}", shell="pwsh")), look)
    assert raw.shell == Shell(command="echo v w", shell="pwsh")


def test_a_slip_in_the_name_is_found() -> None:
    assert list(params.slips("${param.x} ${HOME} ${step.a.status}")) == [
        "unknown reference ${param.x}, did you mean ${params.x}?",
        "unknown reference ${step.a.status}, did you mean ${steps.a.status}?",
    ]
