"""Every language of the table runs what it is given: as an argument, as a file, with its input free."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.languages import ARGUMENT_BYTES, TABLE, argv, available, find
from events.errors import Validation

Write = Callable[[str, bytes], Path]

# In each language: print a b"c'd  e, end with 7, print the first line of the input; what begins a comment.
SAYINGS = {
    "python": ('print("a b\\"c\'d  e")', "raise SystemExit(7)", "print(input())", "#"),
    "bash": ('echo "a b\\"c\'d  e"', "exit 7", 'read -r l; echo "$l"', "#"),
    "sh": ('echo "a b\\"c\'d  e"', "exit 7", 'read -r l; echo "$l"', "#"),
    "zsh": ('echo "a b\\"c\'d  e"', "exit 7", 'read -r l; echo "$l"', "#"),
    "fish": ('echo "a b\\"c\'d  e"', "exit 7", "read l; echo $l", "#"),
    "node": (
        'console.log("a b\\"c\'d  e")',
        "process.exit(7)",
        'console.log(require("fs").readFileSync(0, "utf8").split("\\n")[0])',
        "//",
    ),
    "perl": ('print "a b\\"c\'d  e\\n"', "exit 7", "print scalar <STDIN>", "#"),
    "ruby": ('puts "a b\\"c\'d  e"', "exit 7", "puts STDIN.gets", "#"),
    "php": ('echo "a b\\"c\'d  e\\n";', "exit(7);", "echo fgets(STDIN);", "#"),
    "lua": ('print("a b\\"c\'d  e")', "os.exit(7)", "print(io.read())", "--"),
    "awk": ('BEGIN { print "a b\\"c\'d  e" }', "BEGIN { exit 7 }", "{ print; exit }", "#"),
    "tcl": ('puts "a b\\"c\'d  e"', "exit 7", "puts [gets stdin]", "#"),
    "r": ('cat("a b\\"c\'d  e\\n")', "quit(status = 7)", 'cat(readLines("stdin", n = 1), "\\n")', "#"),
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def into(suffix: str, content: bytes) -> Path:
        path = tmp_path / f"a name with blanks{suffix}"
        path.write_bytes(content)
        return path

    return into


def run(language: str, code: str, write: Write) -> tuple[int, str]:
    done = subprocess.run(
        argv(language, code, write), input="first line\nsecond\n", capture_output=True, text=True, timeout=20
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.rstrip("\n")


@pytest.fixture(params=[row.name for row in TABLE])
def language(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in available():
        pytest.skip(f"{' or '.join(find(name).programs)} is not on this machine")
    return name


def test_it_prints_what_has_blanks_and_quotes(language: str, write: Write) -> None:
    assert run(language, SAYINGS[language][0], write) == (0, "a b\"c'd  e")


def test_its_exit_code_is_kept(language: str, write: Write) -> None:
    assert run(language, SAYINGS[language][1], write) == (7, "")


def test_it_reads_the_input_of_whoever_gave_the_command(language: str, write: Write) -> None:
    assert run(language, SAYINGS[language][2], write)[1].strip() == "first line"


def test_long_code_goes_through_a_file(language: str, write: Write) -> None:
    says, _, reads, comment = SAYINGS[language]
    filler = f"{comment} {'x' * 70}\n" * (ARGUMENT_BYTES // 70 + 1)
    command = argv(language, filler + reads, write)
    assert max(map(len, command)) < 4096
    assert run(language, filler + says, write) == (0, "a b\"c'd  e")
    assert run(language, filler + reads, write)[1].strip() == "first line"


def test_code_may_begin_with_a_dash_a_comment_or_be_empty(language: str, write: Write) -> None:
    says, _, _, comment = SAYINGS[language]
    assert run(language, f"{comment} h\xe9\n{says}\n", write) == (0, "a b\"c'd  e")
    assert run(language, "", write) == (0, "")
    if language in {"python", "node", "perl"}:
        assert run(language, f"-1;{says}", write) == (0, "a b\"c'd  e")


def test_a_shell_takes_code_with_a_dash_for_code(write: Write) -> None:
    for shell in ("bash", "sh"):
        done = subprocess.run(argv(shell, "-x; echo on", write), capture_output=True, text=True, timeout=20)
        assert done.stdout == "on\n"


def test_its_version_can_be_asked(language: str) -> None:
    row = find(language)
    assert row.program is not None
    if not row.version:
        pytest.skip(f"{language} has no way to tell its version")
    done = subprocess.run(
        [row.program, *row.version], stdin=subprocess.DEVNULL, capture_output=True, timeout=20
    )
    assert done.returncode == 0
    assert any(character.isdigit() for character in done.stdout.decode())


def test_names_and_aliases_are_found_in_any_case() -> None:
    assert find("JavaScript").name == "node"
    assert find(" Py ").programs == (sys.executable,)
    names = [name for row in TABLE for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names)
    assert {row.name for row in TABLE} == set(SAYINGS)


def test_an_unknown_language_is_refused_with_what_is_known() -> None:
    with pytest.raises(Validation, match="did you mean python") as near:
        find("pyhton")
    assert near.value.details["did_you_mean"] == "python"
    with pytest.raises(Validation, match="known are python, bash") as far:
        find("brainf")
    assert far.value.details["known"] == [row.name for row in TABLE]


def test_code_that_is_no_text_is_refused(write: Write) -> None:
    with pytest.raises(Validation, match="no text"):
        argv("python", "print('\ud800')", write)


def test_code_with_its_opening_tag_goes_into_a_file_as_it_is(write: Write) -> None:
    with_tag = Path(argv("php", "<?php echo 1;", write)[-1])
    assert with_tag.read_bytes() == b"<?php echo 1;"
    long = Path(argv("php", "echo 1;" + "#" * ARGUMENT_BYTES, write)[-1])
    assert long.read_bytes().startswith(b"<?php echo 1;")


def test_a_program_that_is_not_there_is_named_all_the_same(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert argv("perl", "1", write) == ["perl", "-e", "1"]
    assert set(available()) == {"python"}
