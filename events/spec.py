"""What is to be run: the forms of a command, what stands beside them, and the checks that need no machine."""

import re
import shlex
from datetime import datetime
from typing import Any, cast

import msgspec

from events.errors import Validation
from events.ids import TOKEN
from events.job import Job
from events.job import check as check_job
from events.message import Message
from events.priority import PRIORITIES as PRIORITIES
from events.priority import Priority as Priority
from events.priority import urgency as urgency

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIAL", re.IGNORECASE)
"""An environment variable whose name looks like this is treated as a secret."""

BIG = 256 * 1024
"""`code` and `stdin` above this many bytes travel as blobs."""
BLOB_MAX = 200 * 1024 * 1024
"""The largest blob, in bytes."""
DAY_MS = 24 * 60 * 60 * 1000
TIMEOUT_MAX_MS = 366 * DAY_MS
DELAY_MAX_MS = 3660 * DAY_MS
"""The furthest a start can be put off: ten years."""
RETRIES_MAX = 10_000
KEY_MAX = 200
"""Characters of a `concurrency_key`."""
REASONS = ("command_failed", "job_failed", "spawn_failed", "timeout", "lost", "output_limit", "io")
"""Why an attempt can fail; what was cancelled is never tried again."""
RETRIED = ("command_failed", "job_failed", "lost", "io")
"""What is tried again when `on` does not say."""


class Strict(Message, forbid_unknown_fields=True):
    """Something that came from outside; a field it does not know is an error."""


class Blob(Strict):
    """Text that lies in the object store under its hash."""

    blob: str
    """The SHA-256 of the content, in hex."""


class Script(Strict):
    """A script file; its shebang says who runs it, bash when it has none."""

    path: str
    interpreter: str | None = None


class Exec(Strict):
    """A program with its arguments; no shell sees them."""

    program: str
    args: list[str] = []


class Shell(Strict):
    """A line for a shell."""

    command: str
    shell: str = "/bin/sh"


class Aws(Strict):
    """A call of the AWS command line; answers JSON."""

    service: str
    operation: str
    args: list[str] = []
    profile: str | None = None
    region: str | None = None


class Limits(Strict):
    """What one attempt may use; over `output_bytes` it is killed and ends failed, `output_limit`."""

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None
    output_bytes: int | None = None


class Retries(Strict):
    """How often a failed attempt is followed by another one, after which pause, and for which failures.

    The n-th pause is `backoff_ms` times `factor` to the power of n - 1, longer by up to a quarter at random,
    and never longer than `max_backoff_ms`.
    """

    max: int = 0
    """How many attempts may follow the first one."""
    backoff_ms: int = 1000
    factor: float = 2.0
    max_backoff_ms: int = 300_000
    on_exit: list[int] | None = None
    """Only these exit codes are tried again; without it every one but 0."""
    on: list[str] | None = None
    """Which failures are tried again: `command_failed job_failed spawn_failed timeout lost output_limit io`.

    Without it `command_failed`, `job_failed`, `lost` and `io`; exit codes in `on_exit` need no mention here.
    """
    budget_ms: int | None = None
    """No attempt begins later than this after the first one began."""


class Spec(Message):
    """What a stored execution runs; values of secrets are not in it."""

    code: str | Blob | None = None
    language: str | None = None
    script: Script | None = None
    exec: Exec | None = None
    shell: Shell | None = None
    aws: Aws | None = None
    job: Job | None = None
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """Names of secrets and a keyed hash of each value."""
    working_dir: str | None = None
    timeout_ms: int | None = None
    grace_ms: int = 5000
    stdin: str | Blob | None = None
    description: str | None = None
    labels: tuple[str, ...] = ()
    module: str = "commands"
    priority: Priority = "medium"
    limits: Limits | None = None
    idempotency_key: str | None = None
    retries: Retries | None = None
    concurrency_key: str | None = None
    """What has the same key shares a limit, for example a tenant."""
    plan_id: str | None = None
    """The plan it is a step of; said inside, never by a request."""
    step: str | None = None
    """Which step of that plan."""
    schedule_id: str | None = None
    """The schedule it is a tick of."""
    playbook_id: str | None = None
    """The playbook it is a step of."""
    phase_id: str | None = None
    """In which phase of it."""
    checkpoint: str | None = None
    """The file that `$HINDBRAIN_CHECKPOINT` names; a relative path is below the data folder."""

    @property
    def form(self) -> str:
        """Which of the forms it is."""
        return next(name for name in FORMS if getattr(self, name) is not None)

    @property
    def text(self) -> str:
        """The command as a person would write it, on one line."""
        match self.form:
            case "exec" if self.exec:
                return shlex.join([self.exec.program, *self.exec.args])
            case "shell" if self.shell:
                return self.shell.command
            case "script" if self.script:
                return shlex.join([*filter(None, [self.script.interpreter]), self.script.path])
            case "aws" if self.aws:
                return shlex.join(["aws", self.aws.service, self.aws.operation, *self.aws.args])
            case "job" if self.job:
                return self.job.type
            case _:
                first = self.code.strip().split("\n", 1)[0] if isinstance(self.code, str) else "(large)"
                return f"{self.language}: {first[:200]}"


FORMS = ("code", "script", "exec", "shell", "aws", "job")
COMMANDS = "commands"
"""The module whose workers run commands; jobs run in the module of their plugin."""


class Submit(Strict):
    """Run something.  Exactly one of `code script exec shell aws job` says what."""

    code: str | Blob | None = None
    language: str | None = None
    script: Script | None = None
    exec: Exec | None = None
    shell: Shell | None = None
    aws: Aws | None = None
    job: Job | None = None
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    working_dir: str | None = None
    timeout_ms: int | None = None
    timeout: float | None = None
    """Seconds; the same as `timeout_ms`, and not beside it."""
    grace_ms: int = 5000
    stdin: str | Blob | None = None
    description: str | None = None
    labels: list[str] = []
    module: str | None = None
    """The pool of workers that takes it: `commands`, or of a job the one of its plugin."""
    priority: str | int = "medium"
    limits: Limits | None = None
    idempotency_key: str | None = None
    retries: Retries | None = None
    concurrency_key: str | None = None
    delay_ms: int | None = None
    """Start it so much later."""
    at: str | None = None
    """Start it then (RFC 3339 with a zone), in place of `delay_ms`."""


def due(ask: Submit, now: int) -> int | None:
    """When it shall start at the earliest, both in milliseconds since 1970; None: at once."""
    if ask.delay_ms is not None and ask.at is not None:
        raise Validation("delay_ms and at: give one of them", field="at")
    if ask.delay_ms is not None:
        return now + ask.delay_ms if ask.delay_ms > 0 else None
    if ask.at is None:
        return None
    try:
        time = datetime.fromisoformat(ask.at)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or len(ask.at) < len("2026-01-31T12:00Z"):
        raise Validation(
            f"at is {ask.at!r}: give a time as RFC 3339 with a zone, such as 2026-01-31T12:00:00Z", field="at"
        )
    moment = round(time.timestamp() * 1000)
    if moment - now > DELAY_MAX_MS:
        raise Validation(f"at is {ask.at}: it must be within ten years", field="at")
    return moment if moment > now else None


def check(ask: Submit) -> Spec:
    """Make a spec of what was asked, secrets not yet in it; `Validation` says what to change."""
    given = [form for form in FORMS if getattr(ask, form) is not None]
    if not given:
        raise Validation(f"no command: give exactly one of {', '.join(FORMS)}", field="code")
    if len(given) > 1:
        raise Validation(f"several commands ({', '.join(given)}): give exactly one", field=given[1])
    module = _module(ask)
    if ask.language is not None and ask.code is None:
        raise Validation("language goes with code only", field="language")
    _check_text(ask)
    for name in (*ask.env, *ask.secrets):
        if not ENV_NAME.fullmatch(name):
            raise Validation(f"bad environment name {name!r}: use letters, digits and _", field="env")
    if twice := sorted(set(ask.env) & set(ask.secrets)):
        raise Validation(f"{twice[0]} is in env and in secrets: keep one", field="secrets")
    _check_numbers(ask)
    if ask.concurrency_key is not None and len(ask.concurrency_key) > KEY_MAX:
        raise Validation(f"concurrency_key is longer than {KEY_MAX} characters", field="concurrency_key")
    return Spec(
        code=ask.code,
        language=(ask.language or "python") if ask.code is not None else None,
        script=ask.script,
        exec=ask.exec,
        shell=ask.shell,
        aws=ask.aws,
        job=ask.job,
        env=ask.env,
        working_dir=ask.working_dir,
        timeout_ms=ask.timeout_ms if ask.timeout is None else max(1, round(ask.timeout * 1000)),
        grace_ms=ask.grace_ms,
        stdin=ask.stdin,
        description=ask.description,
        labels=tuple(ask.labels),
        module=module,
        priority=urgency(ask.priority),
        limits=ask.limits,
        idempotency_key=ask.idempotency_key,
        retries=ask.retries if ask.retries and ask.retries.max else None,
        concurrency_key=ask.concurrency_key,
    )


def _module(ask: Submit) -> str:
    """The pool that takes it."""
    module = COMMANDS
    if ask.job is not None:
        check_job(ask.job)
        module = ask.job.plugin
        for name in ("working_dir", "stdin", "limits"):
            if getattr(ask, name) is not None:
                raise Validation(f"{name} goes with commands only, a job gets its data", field=name)
        if ask.env or ask.secrets:
            raise Validation("env and secrets go with commands only, a job gets its data", field="env")
    if ask.module not in (None, module):
        what = "commands run" if ask.job is None else f"jobs of {module} run"
        raise Validation(f"unknown module {ask.module!r}: {what} in {module!r}", field="module")
    return module


def _check_retries(retries: Retries) -> None:
    for name, text in (("on_exit", retries.on_exit), ("on", retries.on)):
        if text is not None and not text:
            raise Validation(f"retries.{name} is empty: name some, or leave it out", field=f"retries.{name}")
    for code in retries.on_exit or ():
        if not 1 <= code <= 255:
            raise Validation(
                f"retries.on_exit names {_shown(code)}: exit codes of a failure are 1 to 255",
                field="retries.on_exit",
            )
    for name in retries.on or ():
        if name not in REASONS:
            raise Validation(
                f"retries.on names {name!r}: it can name {', '.join(REASONS)}", field="retries.on"
            )
    if retries.backoff_ms > retries.max_backoff_ms:
        raise Validation(
            f"retries.backoff_ms is {retries.backoff_ms}, more than "
            f"max_backoff_ms ({retries.max_backoff_ms})",
            field="retries.backoff_ms",
        )


def _check_numbers(ask: Submit) -> None:
    if ask.timeout is not None and ask.timeout_ms is not None:
        raise Validation("timeout (seconds) and timeout_ms: give one of them", field="timeout")
    numbers: list[tuple[str, float | None, float, int]] = [
        ("timeout_ms", ask.timeout_ms, 1, TIMEOUT_MAX_MS),
        ("timeout", ask.timeout, 0.001, TIMEOUT_MAX_MS // 1000),
        ("grace_ms", ask.grace_ms, 0, DAY_MS),
    ]
    if ask.limits is not None:
        values = msgspec.structs.asdict(ask.limits)
        numbers += [(f"limits.{name}", value, 1, 2**62) for name, value in values.items()]
    numbers.append(("delay_ms", ask.delay_ms, 0, DELAY_MAX_MS))
    if (retries := ask.retries) is not None:
        numbers += [
            ("retries.max", retries.max, 0, RETRIES_MAX),
            ("retries.backoff_ms", retries.backoff_ms, 0, DELAY_MAX_MS),
            ("retries.factor", retries.factor, 1, 100),
            ("retries.max_backoff_ms", retries.max_backoff_ms, 0, DELAY_MAX_MS),
            ("retries.budget_ms", retries.budget_ms, 1, DELAY_MAX_MS),
        ]
    for name, value, low, high in numbers:
        if value is not None and not low <= value <= high:
            raise Validation(f"{name} is {_shown(value)}: it must be between {low} and {high}", field=name)
    if retries is not None:
        _check_retries(retries)


def _shown(number: float) -> str:
    """A number in JSON can have thousands of digits."""
    return str(number) if abs(number) < 10**30 else "out of reach"


def _check_text(ask: Submit) -> None:
    # To write it as JSON and look there is much quicker than to look into every field.
    if b"\\u0000" in msgspec.json.encode(ask):
        for name, text in _strings(msgspec.structs.asdict(ask), ""):
            if "\0" in text and name not in ("code", "stdin"):
                raise Validation(f"{name} holds a NUL character, which no program can be given", field=name)
    if isinstance(ask.code, str) and "\0" in ask.code:
        raise Validation("code holds a NUL character, which no program can be given", field="code")
    for name, blob in (("code", ask.code), ("stdin", ask.stdin)):
        if isinstance(blob, Blob) and not re.fullmatch(r"[0-9a-f]{64}", blob.blob):
            raise Validation(f"{name}.blob must be a SHA-256 in hex", field=name)
    for label in ask.labels:
        if not TOKEN.fullmatch(label):
            raise Validation(f"bad label {label!r}: use a-z, 0-9, _ and -, at most 64", field="labels")
    empty = {
        "exec.program": ask.exec and ask.exec.program,
        "script.path": ask.script and ask.script.path,
        "shell.command": ask.shell and ask.shell.command,
        "shell.shell": ask.shell and ask.shell.shell,
        "aws.service": ask.aws and ask.aws.service,
        "aws.operation": ask.aws and ask.aws.operation,
        "idempotency_key": ask.idempotency_key,
        "concurrency_key": ask.concurrency_key,
    }
    for name, text in empty.items():
        if text is not None and not text.strip():
            raise Validation(f"{name} is empty", field=name)


def _strings(value: Any, name: str) -> list[tuple[str, str]]:
    """Every string inside a request, with the field it stands in."""
    if isinstance(value, str):
        return [(name, value)]
    if isinstance(value, Message):
        value = msgspec.structs.asdict(value)
    found: list[tuple[str, str]] = []
    if isinstance(value, dict):
        items = cast(dict[str, Any], value)
        for key, each in items.items():
            path = f"{name}.{key}" if name else key
            found += [(path, key), *_strings(each, path)]
    elif isinstance(value, list | tuple):
        for index, each in enumerate(cast(list[Any], value)):
            found += _strings(each, f"{name}[{index}]")
    return found
