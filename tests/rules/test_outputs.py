"""What a step leaves for the steps after it is read as it was written, or left out with a reason."""

from pathlib import Path
from typing import Any

import pytest

from actors import outputs
from actors.vault import Mask

NONE = Mask([])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("image=a:1\nsize = 3\n\nempty=\n", {"image": "a:1", "size": "3", "empty": ""}),
        ("url=http://x/?a=b", {"url": "http://x/?a=b"}),
        ('{"image": "a:1", "sizes": [1, 2]}\n', {"image": "a:1", "sizes": [1, 2]}),
    ],
)
def test_outputs_are_lines_or_an_object(tmp_path: Path, text: str, found: dict[str, Any]) -> None:
    path = tmp_path / "o"
    path.write_text(text)
    assert outputs.read(path, NONE) == (found, None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no equals sign", "line 1 is not key=value"),
        (b"good=1\n2bad=2", "line 2 is not key=value"),
        (b'{"a": 1', "begin like a JSON object"),
        (b'{"a b": 1}', "bad name 'a b'"),
        (b"\xff=1", "not UTF-8"),
        (b"a=" + b"x" * outputs.MOST, "larger than 65536 bytes"),
    ],
)
def test_what_cannot_be_read_is_left_out_with_a_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "o"
    path.write_bytes(data)
    found, note = outputs.read(path, NONE)
    assert found == {}
    assert note is not None
    assert reason in note


def test_secrets_are_masked_in_outputs(tmp_path: Path) -> None:
    path = tmp_path / "o"
    path.write_text("said=geheimnis")
    assert outputs.read(path, Mask(["geheimnis"])) == ({"said": "*" * 9}, None)


def test_no_file_is_no_outputs(tmp_path: Path) -> None:
    assert outputs.read(tmp_path / "o", NONE) == ({}, None)
