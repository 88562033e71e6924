"""From what is stored of an execution to what the keeper is asked: arguments, environment, files."""

import os
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path

from actors import kept, languages
from actors.files import Files
from actors.vault import Vault
from events import codec, trace
from events.errors import Unavailable, Validation
from events.execution import State
from events.spec import Blob, Spec

KEPT_FROM_COMMANDS = ("HINDBRAIN_", "NATS_", "TRACEPARENT", "TRACESTATE")
"""Environment variables of the node that its commands do not get: each has a trace of its own."""


def blobs(spec: Spec) -> list[str]:
    """The hashes of the large texts that it needs."""
    return [each.blob for each in (spec.code, spec.stdin) if isinstance(each, Blob)]


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def prepare(entity: str, state: State, files: Files, vault: Vault) -> tuple[kept.Spawn, list[Path]]:
    """Make the request for the keeper, and say which files were made for it."""
    spec, made = state.spec, list[Path]()
    secrets = vault.of(entity, spec)
    if secrets is None:
        raise Unavailable("the values of its secrets are not on this node any more")
    folder = files.folders.take(entity) if spec.working_dir is None else Path(spec.working_dir)
    outputs = {stream: files.output(entity, stream) for stream in ("stdout", "stderr")}
    if secrets:
        outputs = {stream: files.raw(entity, stream) for stream in outputs}
        made += outputs.values()
    stdin = _stdin(entity, spec, files, made)
    context = trace.under(state.trace, entity, "attempt", state.attempt)
    env = ({"TRACEPARENT": context} if context else {}) | _environment(entity, spec, files, secrets)
    if spec.plan_id is not None or spec.playbook_id is not None:
        path = files.outputs(entity, state.attempt)
        # Not emptied: the command may be running already.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        env["HINDBRAIN_OUTPUT"] = str(path)
        made.append(path)
    limits = spec.limits
    request = kept.Spawn(
        execution=entity,
        attempt=state.attempt,
        argv=_arguments(entity, spec, files, made, folder),
        env=env,
        cwd=str(folder),
        stdin=stdin,
        stdout=str(outputs["stdout"]),
        stderr=str(outputs["stderr"]),
        timeout_ms=spec.timeout_ms,
        deadline_ms_elapsed=max(0, time.time_ns() // 1_000_000 - codec.millis(state.started_at or "")),
        grace_ms=spec.grace_ms,
        limits=None
        if limits is None
        else kept.Limits(limits.memory_bytes, limits.cpu_seconds, limits.open_files),
    )
    return request, made


def _stdin(entity: str, spec: Spec, files: Files, made: list[Path]) -> str | None:
    match spec.stdin:
        case None:
            return None
        case Blob(blob=sha256):
            return str(files.blob(sha256))
        case str(text):
            path = files.code(entity, ".stdin")
            _write(path, text.encode())
            made.append(path)
            return str(path)


def _arguments(entity: str, spec: Spec, files: Files, made: list[Path], folder: Path) -> list[str]:
    if spec.exec:
        return [spec.exec.program, *spec.exec.args]
    if spec.shell:
        return [spec.shell.shell, "-c", spec.shell.command]
    if spec.aws:
        return ["aws", spec.aws.service, spec.aws.operation, *spec.aws.args]
    if spec.script:
        path = folder / spec.script.path
        return [*([spec.script.interpreter] if spec.script.interpreter else _shebang(path)), str(path)]
    code = files.blob(spec.code.blob).read_text() if isinstance(spec.code, Blob) else spec.code or ""

    def keep(suffix: str, text: bytes) -> Path:
        path = files.code(entity, suffix)
        _write(path, text)
        made.append(path)
        return path

    return languages.argv(spec.language or "python", code, keep)


def _shebang(path: Path) -> list[str]:
    """Who runs a script: its first line says so, else bash, else sh."""
    with path.open("rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!"):
        words = first[2:].decode(errors="replace").strip().split(None, 1)
        if not words:
            raise Validation(f"the first line of {path} names no interpreter")
        return words
    return [shutil.which("bash") or "/bin/sh"]


def _environment(entity: str, spec: Spec, files: Files, secrets: dict[str, str]) -> dict[str, str]:
    env = dict(_inherited())
    if spec.aws:
        env["AWS_OUTPUT"] = "json"
        if spec.aws.profile:
            env["AWS_PROFILE"] = spec.aws.profile
        if spec.aws.region:
            env["AWS_REGION"] = spec.aws.region
    own = {"HINDBRAIN_EXECUTION_ID": entity, "HINDBRAIN_DATA": str(files.data)}
    if spec.playbook_id is not None:
        own |= {"HINDBRAIN_PLAYBOOK_ID": spec.playbook_id, "HINDBRAIN_PHASE_ID": spec.phase_id or ""}
    if spec.checkpoint is not None:
        path = files.data / spec.checkpoint
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own["HINDBRAIN_CHECKPOINT"] = str(path)
    return env | spec.env | secrets | own


@cache
def _inherited() -> dict[str, str]:
    """The node's own environment, as far as its commands get it, with our own programs last on PATH."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_FROM_COMMANDS)}
    # `hindbrain progress` has to be found, and must not hide a program of the same name or another python.
    env["PATH"] = f"{env.get('PATH', os.defpath)}:{Path(sys.executable).parent}"
    return env


def _write(path: Path, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
