"""Plan files: three formats, one tree; and every error is said with file and line."""
# ruff: noqa: E501 -- a table is read by its rows

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.spec import Shell
from interfaces import planfile, positions
from interfaces.planfile import Wrong

TOML = """\
name = "checks"
strategy = "graph"            # how
max_concurrency = 4

[params.target]
type = "string"
default = "dev"

[[steps]]
name = "lint"
shell = { command = "ruff check" }

[[steps]]
name = "build"
shell = { command = "make ${params.target}" }
needs = ["lint"]
when = "steps.lint.status == 'completed'"
timeout_ms = 60000
retries = { max = 3, backoff_ms = 500, on = ["lost"] }
undo = { shell = { command = "make clean" } }

[[steps]]
name = "inner"
needs = ["build"]
steps = [
    { name = "one", exec = { program = "true" } },
    { name = "two", exec = { program = "true" }, env = { A = "1" } },
]
"""
YAML = """\
name: checks
strategy: graph
max_concurrency: 4
params:
  target: {type: string, default: dev}
steps:
  - name: lint
    shell: {command: ruff check}
  - name: build
    shell:
      command: make ${params.target}
    needs: [lint]
    when: steps.lint.status == 'completed'
    timeout_ms: 60000
    retries: {max: 3, backoff_ms: 500, on: [lost]}
    undo: {shell: {command: make clean}}
  - name: inner
    needs: [build]
    steps:
      - {name: one, exec: {program: "true"}}
      - name: two
        exec: {program: "true"}
        env: {A: "1"}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def wrong(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    write(folder, name, text)
    monkeypatch.chdir(folder)
    with pytest.raises(Wrong) as caught:
        planfile.read(name)
    assert str(caught.value.message) == "\n".join(caught.value.lines)
    return caught.value.lines


def test_the_three_formats_are_one_tree(tmp_path: Path) -> None:
    plans = [
        planfile.read(write(tmp_path, "a.toml", TOML)),
        planfile.read(write(tmp_path, "a.yaml", YAML)),
        planfile.read(write(tmp_path, "a.json", json.dumps(tomllib.loads(TOML), indent="\t"))),
    ]
    assert plans[0] == plans[1] == plans[2]
    definition = plans[0].definition
    assert [step.name for step in definition.steps] == ["lint", "build", "inner"]
    assert definition.steps[1].do is not None
    assert definition.steps[1].do.shell == Shell(command="make ${params.target}")
    assert definition.steps[2].plan is not None
    assert [step.name for step in definition.steps[2].plan.steps] == ["one", "two"]


STEP = '[[steps]]\nname = "a"\nexec = { program = "true" }\n'
BAD_TOML: list[tuple[str, list[str]]] = [
    (STEP + STEP.replace('"a"', '"b"') + 'need = ["a"]\n', ["7: unknown key 'need', did you mean 'needs'"]),
    ('name = "x"\n' + STEP + 'neds = ["a"]\nwhn = "x"\n', ["5: unknown key 'neds', did you mean 'needs'", "6: unknown key 'whn', did you mean 'when'"]),
    ('stratgy = "graph"\n' + STEP, ["1: unknown key 'stratgy', did you mean 'strategy'"]),
    ('strategy = "grph"\n' + STEP, ["1: unknown strategy 'grph', did you mean 'graph'"]),
    ("max_concurrency = '4'\n" + STEP, ["1: max_concurrency must be an integer, not the string '4'"]),
    ("max_concurrency = 0\n" + STEP, ["1: max_concurrency is 0: it must be between 1 and 10000"]),
    (STEP + 'needs = "b"\n', ["4: needs must be a list of strings, not the string 'b'"]),
    (STEP + 'needs = ["b",\n  3,\n]\n', ["5: needs[1] must be a string, not the number 3"]),
    (STEP + "allow_failure = 1\n", ["4: allow_failure must be true or false, not the number 1"]),
    (STEP + "timeout_ms = 0\n", ["4: timeout_ms is 0: it must be between 1 and 31622400000"]),
    (STEP + "retries = { max = 3,\n", ["4: Unexpected end"]),
    (STEP + "\n[steps.retries]\nmax = 3\nbackof_ms = 5\n", ["7: unknown key 'backof_ms', did you mean 'backoff_ms'"]),
    (STEP + 'retries = { max = 1, on = ["lst"] }\n', ["4: retries.on names 'lst': it can name command_failed, job_failed, spawn_failed, timeout, lost, output_limit, io"]),
    ('[[steps]]\nexec = { program = "true" }\n', ["1: the step needs a name"]),
    ('[[steps]]\nname = "a"\n', ["1: step 'a' runs nothing: give exactly one of code, script, exec, shell, aws, job, plan, steps"]),
    ('name = "x"\n', ["1: a plan needs at least one step"]),
    ("", ["1: a plan needs at least one step"]),
    ("# nothing\nname = \n", ["2: Invalid value"]),
    (STEP + "name = 3\n", ["4: Cannot overwrite a value"]),
    (STEP + STEP, ["5: there are two steps named 'a'"]),
    ('strategy = "graph"\n' + STEP + 'needs = ["c"]\n' + STEP.replace('"a"', '"b"') + 'needs = ["a", "a2"]\n', ["5: step 'a' needs unknown step 'c', there are b", "9: step 'b' needs unknown step 'a2', did you mean 'a'?"]),
    (STEP + 'needs = ["a"]\n', ["4: step 'a' needs itself"]),
    (STEP + 'when = "steps.b.status"\n', ["4: when: unknown step 'b', there are a"]),
    (STEP + 'when = "steps.a.stat"\n', ["4: when: 'steps.a.stat' at character 1 does not say what of the step: did you mean 'status'?"]),
    ('[params.x]\ntype = "strin"\n' + STEP, ["2: unknown type 'strin', did you mean 'string'"]),
    ('[params.x]\ntype = "integer"\ndefault = "1"\n' + STEP, ["3: the default of parameter 'x' must be an integer, not the string '1'"]),
    ('[[steps]]\nname = "a"\n[steps.exec]\nprogram = "x"\nargs = [\n  "b", # ]\n  "${params.y}",\n]\n', ["7: unknown parameter 'y', there are none"]),
    (STEP + "at = 2026-01-31\n", ["4: at must be a string, not 2026-01-31 (put it in quotes)"]),
    ('steps = [\n  { name = "a", exec = { program = "true" } },\n  { name = "b", exec = { program = "true", arg = [] } },\n]\n', ["3: unknown key 'arg', did you mean 'args'"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD_TOML)
def test_what_is_wrong_in_toml_is_said_with_its_line(
    text: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = wrong(tmp_path, "checks.toml", text, monkeypatch)
    if "Unexpected" in said[0]:
        assert lines[0].startswith("checks.toml:4: ")
        return
    assert lines == [f"checks.toml:{each}" for each in said]


BAD_YAML: list[tuple[str, list[str]]] = [
    ("name: x\nsteps:\n  - name: a\n    exec: {program: x}\n    timeout_ms: 1\n\n    need: [b]\n", ["7: unknown key 'need', did you mean 'needs'"]),
    ("steps:\n- name: a\n  exec:\n    program: x\n    args:\n    - b\n    - [c]\n", ["7: exec.args[1] must be a string, not a list"]),
    ("steps:\n- name: a\n  name: b\n", ["3: key 'name' is given twice"]),
    ("steps: [\n", ["2: expected the node content, but found '<stream end>'"]),
    ("steps:\n\t- x\n", ["2: found character '\\t' that cannot start any token"]),
    ("- a\n", ["1: a plan is a table, not a list"]),
    ("a: &x\n  b: *x\n", ["1: a value contains itself"]),
    ("a: *nobody\n", ["1: found undefined alias 'nobody'"]),
    ("name: !!python/object:os.system x\nsteps: []\n", ["1: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'"]),
    ("steps:\n- name: a\n  exec: {program: x}\n  env: {A: 1}\n", ["4: env.A must be a string, not the number 1"]),
    ("steps:\n- name: a\n  exec: {program: x}\n  env: {1: x}\n", ["4: key 1 of env must be a text: put it in quotes"]),
    ("steps:\n- name: no\n  exec: {program: on}\n  allow_failure: yes\n", ["4: allow_failure must be true or false, not the string 'yes'"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD_YAML)
def test_what_is_wrong_in_yaml_is_said_with_its_line(
    text: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong(tmp_path, "p.yaml", text, monkeypatch) == [f"p.yaml:{each}" for each in said]


BAD_JSON: list[tuple[str, list[str]]] = [
    ('{\n\t"steps": [\n\t\t{"name": "a",\n\t\t "exec": {"program": "x"},\n\t\t "args": []}\n\t]\n}', ["5: unknown key 'args'"]),
    ('{\n"steps": [],\n"name"}', ["3: Expecting ':' delimiter"]),
    ('{\n"name": 3,\n"steps": []}', ["2: name must be a string, not the number 3"]),
    ('{"name": NaN}', ["1: it cannot be read: NaN is no JSON"]),
    ('{"name": "a",\n "name": "b"}', ["2: key 'name' is given twice"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD_JSON)
def test_what_is_wrong_in_json_is_said_with_its_line(
    text: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = wrong(tmp_path, "p.json", text, monkeypatch)
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(f"p.json:{start}")


# ---- files in files --------------------------------------------------------------------------------------


def test_a_file_can_be_a_step_of_another_one(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write(tmp_path, "more/inner.yaml", "params: {to: {}}\nsteps:\n- {name: x, exec: {program: 'true'}}\n")
    text = '[[steps]]\nname = "a"\nplan = "more/inner.yaml"\nvalues = { to = "there" }\n'
    (step,) = planfile.read(write(tmp_path, "outer.toml", text)).definition.steps
    assert step.plan is not None
    assert [each.name for each in step.plan.steps] == ["x"]


def test_what_is_wrong_in_an_included_file_is_said_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = '[[steps]]\nname = "a"\nplan = "inner.toml"\n'
    write(tmp_path, "inner.toml", STEP + "needs = ['b']\n")
    assert wrong(tmp_path, "outer.toml", outer, monkeypatch) == [
        "inner.toml:4: step 'a' needs unknown step 'b', there are none"
    ]
    write(tmp_path, "inner.toml", STEP + "\nargs = 1\n")
    assert wrong(tmp_path, "outer.toml", outer, monkeypatch)[0].startswith("inner.toml:5: unknown key 'args'")
    write(tmp_path, "inner.toml", '[params.to]\ntype = "integer"\n' + STEP)
    assert wrong(tmp_path, "outer.toml", outer + 'values = { to = "x" }\n', monkeypatch) == [
        "outer.toml:4: parameter 'to' must be an integer, not the string 'x'"
    ]
    write(tmp_path, "inner.toml", '[[steps]]\nname = "b"\nplan = "outer.toml"\n')
    assert wrong(tmp_path, "outer.toml", outer, monkeypatch) == ["inner.toml:3: 'outer.toml' includes itself"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, said in (
        ("none.toml", "none.toml:1: 'none.toml' cannot be read: No such file or directory"),
        ("a.txt", "a.txt:1: 'a.txt' is no plan file: its name ends in .toml, .yaml, .yml or .json"),
    ):
        with pytest.raises(Wrong) as caught:
            planfile.read(name)
        assert caught.value.lines == [said]
    (tmp_path / "bad.toml").write_bytes(b'name = "x"\n# \xff\n')
    with pytest.raises(Wrong, match=r"bad\.toml:2: it is not UTF-8"):
        planfile.read("bad.toml")
    assert wrong(tmp_path, "o.toml", '[[steps]]\nname = "a"\nplan = "none.toml"\n', monkeypatch) == [
        "o.toml:3: 'none.toml' cannot be read: No such file or directory"
    ]


# ---- lines -----------------------------------------------------------------------------------------------

keys = st.sampled_from(["a", "b-c", '"d.e"', "'f g'", '"h\\"i"'])
leaves = st.sampled_from(
    [
        "1",
        "true",
        "2026-01-31T12:00:00Z",
        '"x # y"',
        "'[z]'",
        '"""a\n\nb"c"""',
        "'''d\n'e'''",
        "0x1f",
        "-1.5e3",
    ]
)
inline = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda row: "[\n " + ", # c ]\n ".join(row) + "\n]"),
        st.dictionaries(keys, inner, max_size=3).map(
            lambda row: "{ " + ", ".join(f"{key} = {value}" for key, value in row.items()) + " }"
        ),
    ),
    max_leaves=5,
)


def paths(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(tree, dict):
        pairs = list(tree.items())  # type: ignore[arg-type] -- any tree
    elif isinstance(tree, list):
        pairs = list(enumerate(tree))  # type: ignore[arg-type] -- any tree
    found = [(*path, key) for key, _ in pairs]
    return found + [each for key, value in pairs for each in paths(value, (*path, key))]


@given(
    st.lists(
        st.tuples(st.sampled_from(["[t.", "[[r."]), keys, st.dictionaries(keys, inline, max_size=3)),
        max_size=4,
    )
)
def test_every_place_of_a_toml_file_has_its_line(tables: list[tuple[str, str, dict[str, str]]]) -> None:
    text = "\n"
    for place, (kind, name, pairs) in enumerate(tables):
        end = "]]" if kind == "[[r." else "]"
        text += f"{kind}{name}.n{place}{end} # t\n" + "".join(
            f"{key} = {value}\n\n" for key, value in pairs.items()
        )
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    parsed = positions.parse(text, ".toml")
    assert set(parsed.lines) == set(paths(tree))
    rows = text.split("\n")
    for path, line in parsed.lines.items():
        if isinstance(path[-1], str):
            assert path[-1].replace('"', '\\"') in rows[line - 1]
