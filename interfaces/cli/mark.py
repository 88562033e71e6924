"""A command says how far it is: one line in a file that its node watches; quick, and without a connection."""

import os
from pathlib import Path

import click

UNITS = 100.0


@click.command("progress")
@click.argument("current")
@click.argument("total", required=False)
@click.argument("message", required=False)
@click.option("--unit", help="What is counted: files, MB, ...")
def progress_verb(current: str, total: str | None, message: str | None, unit: str | None) -> None:
    r"""Say how far it is, from inside a command.

    \b
    hindbrain progress 3 10 "third file"
    hindbrain progress 60% "more than half"
    """
    import json
    import time

    execution, data = os.environ.get("HINDBRAIN_EXECUTION_ID"), os.environ.get("HINDBRAIN_DATA")
    if not execution or not data:
        raise click.UsageError("this works only inside a command that Hindbrain runs")
    if not execution.replace("_", "").isalnum():
        raise click.UsageError(f"HINDBRAIN_EXECUTION_ID is {execution!r}: that is no id")
    if current.endswith("%"):
        if total is not None and message is None:
            total, message = None, total
        if total is not None:
            raise click.UsageError("a percentage has no total: hindbrain progress 60% [MESSAGE]")
        count, whole, unit = _number(current[:-1]), UNITS, unit or "%"
    else:
        if total is not None and message is None and not _is_number(total):
            total, message = None, total
        count, whole = _number(current), None if total is None else _number(total)
    message = message and message.encode(errors="replace").decode()
    said = {"current": count, "total": whole, "unit": unit, "message": message, "time": time.time()}
    line = json.dumps(said).encode() + b"\n"
    file = Path(data) / "run" / f"{execution}.progress"
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _number(text: str) -> float:
    if not _is_number(text):
        raise click.UsageError(f"{text!r} is no number: hindbrain progress CURRENT [TOTAL] [MESSAGE]")
    value = float(text)
    return int(value) if value.is_integer() else value


def _is_number(text: str) -> bool:
    whole, _, part = text.partition(".")
    return text.isascii() and (whole + part).isdecimal()
