"""Whatever a command writes arrives whole, in order, soon, and without costing the node its memory."""

import asyncio
import hashlib
import statistics
import time
from typing import Any

import psutil
import pytest
from foreign import Foreign, Place

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]
MIB = 1024 * 1024


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_million_lines_are_there_within_a_second_of_the_end(bus: Foreign) -> None:
    wanted = digest("".join(f"{n}\n" for n in range(1, 1_000_001)).encode())
    over = asyncio.create_task(bus.nc.request("$JS.API.INFO", b""))
    ends = await bus.hear("brain.fact.execution.*.*.completed")
    execution = await bus.submit(exec={"program": "seq", "args": ["1000000"]})
    reading = asyncio.create_task(bus.output(execution))
    while True:
        fact = await ends.next_msg(30)
        if f".{execution}." in fact.subject:
            break
    ended = time.monotonic()
    output = await reading
    late = time.monotonic() - ended
    await over
    assert digest(output["stdout"]) == wanted
    done = await bus.over(execution)
    assert done["result"]["stdout_sha256"] == wanted
    assert (done["stdout_bytes"], done["last_output"]) == (len(output["stdout"]), "1000000")
    assert late < 1.0, f"all of it was there {late:.3f} s after the end"


async def test_200_mib_on_one_line_cost_the_node_little(bus: Foreign, info: dict[str, Any]) -> None:
    node, projector = psutil.Process(info["pid"]), psutil.Process(info["projector_pid"])
    size = 200 * MIB
    execution = await bus.submit(shell={"command": f"head -c {size} /dev/zero | tr '\\0' x"})
    most = 0
    waiting = asyncio.create_task(bus.over(execution, 120))
    while not waiting.done():
        most = max(most, node.memory_info().rss)
        await asyncio.wait([waiting], timeout=0.1)
    done = await waiting
    assert (done["status"], done["stdout_bytes"]) == ("completed", size)
    assert done["last_output"] == "x" * 500
    wanted = hashlib.sha256()
    for _ in range(200):
        wanted.update(b"x" * MIB)
    assert done["result"]["stdout_sha256"] == wanted.hexdigest()
    assert (done["result"]["truncated"], len(done["result"]["stdout"])) == (True, 65536)
    assert most < 200 * MIB, f"the node took {most / MIB:.0f} MiB"
    assert projector.memory_info().rss < 400 * MIB


NASTY = r"""
import sys, os
out, err = sys.stdout.buffer, sys.stderr.buffer
for n in range(3000):
    out.write(b"\xff\xfe\xc3 %d \r" % n); err.write(b"%d%%\r" % (n // 30))
    if n % 100 == 0:
        out.flush(); err.flush()
out.write(b"\x00\xf0\x9f no newline"); err.write(b"\xe2\x82")
"""


async def test_bytes_of_every_kind_arrive_as_they_were_written(bus: Foreign, place: Place) -> None:
    execution = await bus.submit(code=NASTY)
    stdout = b"".join(b"\xff\xfe\xc3 %d \r" % n for n in range(3000)) + b"\x00\xf0\x9f no newline"
    stderr = b"".join(b"%d%%\r" % (n // 30) for n in range(3000)) + b"\xe2\x82"
    assert await bus.output(execution) == {"stdout": stdout, "stderr": stderr}
    logs = place.cli("logs", execution, "--both")
    assert (logs.stdout, logs.stderr) == (stdout, stderr)


async def test_a_child_that_outlives_its_parent_loses_nothing(bus: Foreign) -> None:
    line = "(for n in 1 2 3 4 5 6; do echo late $n; sleep 0.05; done) & echo first"
    execution = await bus.submit(shell={"command": line})
    output = await bus.output(execution)
    done = await bus.over(execution)
    kept = b"".join([b"first\n", *(b"late %d\n" % n for n in range(1, 7))])
    # Whether the child may go on is the keeper's rule; what was written before the end must be there.
    assert kept.startswith(output["stdout"]) or output["stdout"] in kept
    assert digest(output["stdout"]) == done["result"]["stdout_sha256"]
    assert done["stdout_bytes"] == len(output["stdout"])


async def test_what_is_written_is_heard_soon(bus: Foreign) -> None:
    code = (
        "import time\n"
        "for n in range(20):\n"
        "    print(time.time(), flush=True)\n"
        "    time.sleep(0.15 if n % 5 else 0.4)\n"
    )
    heard = await bus.hear("brain.out.>")
    execution = await bus.submit(code=code)
    delays: list[float] = []
    while True:
        piece = await heard.next_msg(10)
        if execution not in piece.subject:
            continue
        if "Brain-End" in (piece.headers or {}):
            break
        delays += [time.time() - float(line) for line in piece.data.split()]
    assert len(delays) == 20
    assert statistics.median(delays) < 0.2, delays


async def test_a_follower_that_comes_late_sees_all_of_it(bus: Foreign, place: Place) -> None:
    code = (
        "import sys\n"
        "sys.stdout.buffer.write(bytes(range(256)) * 2000); sys.stdout.flush()\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "sys.stdin.readline() if False else __import__('time').sleep(1.5)\n"
        "sys.stdout.buffer.write(b'after\\xff')\n"
    )
    ready = await bus.hear("brain.out.*.stderr")
    execution = await bus.submit(code=code)
    while execution not in (await ready.next_msg(10)).subject:
        pass
    done = await asyncio.to_thread(place.cli, "logs", execution, "-f", "--both")
    assert done.returncode == 0
    assert digest(done.stdout) == digest(bytes(range(256)) * 2000 + b"after\xff")
    assert done.stderr == b"ready\n"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64])
async def test_pieces_of_text_never_cut_a_character(bus: Foreign, step: int) -> None:
    text = "aé€😀" * 40
    code = f"import sys; sys.stdout.buffer.write({text!r}.encode()); sys.stdout.buffer.write(b'\\xff!')"
    execution = (await bus.run(code=code))["id"]
    ask = {"execution_id": execution, "stream": "stdout", "max_bytes": step}
    said, offset = "", 0
    while True:
        page = await bus.ask("execution.logs", ask | {"offset": offset})
        for piece in page["chunks"]:
            assert piece["offset"] == len(said.replace("\ufffd", "?").encode())
            said += piece["text"]
        assert page["next_offset"] > offset or page["end"]
        offset = page["next_offset"]
        if page["end"]:
            break
    assert said == text + "\ufffd!"


async def test_the_inline_output_of_a_result_ends_between_characters(bus: Foreign) -> None:
    done = await bus.run(code="print('x' + '€' * 40000)")
    assert done["result"]["truncated"] is True
    assert "\ufffd" not in done["result"]["stdout"]
    ask = {"execution_id": done["id"], "max_bytes": 3}
    assert (await bus.ask("execution.result", ask))["result"]["stdout"] == "x"


PROGRESS = {
    "verb": "hindbrain progress 3 4 'third file' --unit files; sleep 0.7",
    "line": "echo '::progress 3/4files third file'; sleep 0.7",
    "sequence": r"printf '\033]9;4;1;75\007'; sleep 0.7",
    "bar": r"printf 'loading  50%%\rloading  75%%\r' >&2; sleep 0.7",
}


@pytest.mark.parametrize("source", PROGRESS)
async def test_progress_of_every_kind_is_told_and_kept(bus: Foreign, source: str, info: Any) -> None:
    import os
    import sys
    from pathlib import Path

    heard = await bus.hear("brain.progress.execution.*")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    execution = await bus.submit(shell={"command": PROGRESS[source]}, env={"PATH": path})
    while True:
        message = await heard.next_msg(15)
        if execution in message.subject and b'"fraction":0.75' in message.data:
            break
    assert b'"final":false' in message.data, "it was told only at the end"
    done = await bus.over(execution)
    assert (done["status"], done["progress"]) == ("completed", "75% complete")
    detail = done["progress_detail"]
    assert detail["fraction"] == 0.75
    if source in ("verb", "line"):
        assert (detail["current"], detail["total"], detail["unit"], detail["message"]) == (
            3,
            4,
            "files",
            "third file",
        )


async def test_a_progress_file_may_hold_anything(bus: Foreign, place: Place) -> None:
    lines = [
        "[1]",
        '{"current": [1]}',
        '{"current": 1' + "0" * 400 + "}",
        '{"current": NaN}',
        '{"deep": ' + "[" * 5000 + "]" * 5000 + "}",
        r'{"current": 1, "total": 5e-324, "message": "\\udcff"}',
        "\\377\\376",
        '{"current": -5, "total": 1e300, "unit": "' + "u" * 9000 + '"}',
        '{"current": 9, "total": 10}',
    ]
    said = "\\n".join(line.replace('"', '\\"') for line in lines)
    target = '"$HINDBRAIN_DATA/run/$HINDBRAIN_EXECUTION_ID.progress"'
    done = await bus.run(shell={"command": f'printf "{said}\\n" > {target}; sleep 0.3'})
    assert (done["status"], done["progress"]) == ("completed", "90% complete")
    assert done["progress_detail"]["current"] == 9
    assert place.info["connected"] is True


async def test_two_streams_of_text_can_be_read_in_pieces_of_any_size(bus: Foreign) -> None:
    code = (
        "import os, time\n"
        "for part in (b'a\\xe2', b'\\x82', b'\\xacb\\xf0\\x9f', b'\\x98\\x80'):\n"
        "    os.write(1, part); os.write(2, b'[' + part); time.sleep(0.25)\n"
    )
    execution = await bus.submit(code=code)
    said = {"stdout": "", "stderr": ""}
    offset, ask = 0, {"execution_id": execution, "max_bytes": 2}
    while True:
        page = await bus.ask("execution.logs", ask | {"offset": offset})
        for piece in page["chunks"]:
            said[piece["stream"]] += piece["text"]
        offset = page["next_offset"]
        if page["end"]:
            break
    assert said["stdout"] == "a€b😀"
    wanted = b"[a\xe2[\x82[\xacb\xf0\x9f[\x98\x80".decode(errors="replace")
    assert said["stderr"] == wanted
