"""What the reference says that no type holds: introductions, and the origin of what is not folded."""

COMMANDS = """# Commands

Every verb of `brain.cmd.<kind>.<verb>`; the same table is served as `POST /api/<kind>/<verb>`, see
[HTTP](http.md). A field that is not listed is refused. Every changing reply carries `seq`, the place of its
fact in the log.

"""
EVENTS = """# Events

A fact is stored under `brain.evt.<kind>.<id>.<n>.<event>` and told to everybody as `brain.fact.` with
the same tail. Its body is JSON with the token of the event in `event`; fields that have their default are
left out. The envelope is in headers:

"""
CHAIN = """\
`prev` is the SHA-256, in hex, of subject, `Brain-Id`, `Brain-Time`, `Brain-Cause`, `Brain-By`,
`Brain-Prev` and body of the entity's previous event, each followed by a newline.

"""
SUBJECTS = """\
A token is 1 to 64 of `a-z 0-9 _ -`. Listen on `brain.fact.>`, never on `brain.evt.>`: a core
subscriber there would also see what the log refused, and has no permission to. The verbs are listed in
[commands](commands.md), the events in [events](events.md).

"""
TABLES = """# Tables

All times are UTC. A folded table can be dropped and folded again at any time, and asked as of any past moment
(`seq` or `at` of [`query sql`](commands.md#query-sql)).

"""
ERRORS = """# Errors

A refusal is `{"error": {"code", "message", "details"}}`: on the bus with the headers
`Nats-Service-Error` (the code) and `Nats-Service-Error-Code` (the status), over
HTTP with that status. The code is stable, the message is for people.

"""
ENDS = """# How an execution can end badly

`error.code` of an execution; for `failed` also its `reason`.

"""
METRICS = """\
# Metrics

What `GET /metrics` gives, in the text format of Prometheus, or in OpenMetrics for who asks for that. Without
the label `node` it is about the whole installation and the same at every node. See
[metrics and traces](../guides/metrics.md).

"""
HEADERS = (
    (
        "`brain.evt`, `brain.fact`",
        "`Brain-Id Brain-Time Brain-Cause Brain-By Brain-Prev traceparent`; on `brain.fact` `Nats-Sequence`",
    ),
    (
        "`brain.out`",
        "`Brain-Offset Brain-Time Brain-Attempt`; the last one is empty and has `Brain-End: <total bytes>`."
        " What never began, and a job that wrote nothing, has no messages here: its end is a fact",
    ),
    ("`brain.dead.inbox`", "`Brain-Msg-Id Brain-Error`"),
    ("replies", "`Nats-Service-Error` and `Nats-Service-Error-Code` on a refusal"),
)
EXITS = (
    ("the command's own", "`run` and `wait`, when it ended by itself"),
    ("128 + n", "it was ended by signal n"),
    ("124", "it timed out"),
    ("125", "it ended without an exit code: `lost`, `output_limit`, `poisoned`, `io`"),
    ("126, 127", "it could not be run, or was not found"),
    ("130", "it was cancelled"),
    ("1", "`doctor` found something"),
    ("2", "the request was refused"),
    ("3", "no node runs"),
    ("4", "`wait --timeout` gave up"),
)
ENVELOPE = {
    "seq": "its place in the log; header `Nats-Sequence` on `brain.fact.>`",
    "id": "header `Brain-Id`: unique, made once, kept when an append is repeated",
    "time": "header `Brain-Time`: when it was decided",
    "kind": "third token of the subject",
    "entity": "fourth token of the subject",
    "n": "fifth token of the subject: the entity's version, 1 for its first event",
    "event": "sixth token of the subject, and `event` in the body",
    "cause": "header `Brain-Cause`: the id of the command or event that led to it",
    "by": "header `Brain-By`: who asked",
    "prev": "header `Brain-Prev`: hash of the entity's previous event, empty for its first",
    "trace": "header `traceparent` (W3C trace context): what the submission came with, or a fresh one",
    "data": "the body",
}
SAID = {
    "event": "name",
    "time": "time",
    "seq": "sequence",
    "entity": "entity of the",
    "place": "place in the list of the",
    "id": "id of the row that it speaks of, by the",
}
"""How the envelope is called in the origin of a column."""
LOOSE = {
    "execution_usage": {
        "execution": "which execution",
        "time": "when the sample was taken",
        "cpu_percent": "of one processor, since the sample before",
        "memory_bytes": "resident memory of its whole process tree",
        "processes": "how many processes the tree had",
    },
    "output_index": {
        "execution": "which execution",
        "stream": "`stdout` or `stderr`",
        "bytes": "how much of it was seen on `brain.out.>`",
        "lines": "how many lines were complete in it",
        "last_offset": "where the last piece begins",
        "last_at": "when the last piece was written",
        "ended": "whether the end was seen",
    },
    "projection_bookmarks": {
        "name": "the table; `events` for the copy of the log",
        "version": "the version of its declaration; another one has it folded again",
        "seq": "the last event in it",
        "hash": "the chain hash of that event, compared with the log at every start",
        "time": "when that event was decided",
    },
}
ABOUT = {
    "events": "The second copy of the log: one row per event, as it was stored.",
    "executions": "One row per execution.",
    "attempts": "One row per execution and attempt.  It is folded from the log whenever it is asked for.",
    "plans": "One row per plan and per batch.",
    "plan_steps": "One row per plan and step, those that wait among them; operations of a batch have none.",
    "schedules": "One row per schedule.",
    "limits": "One row per limit that ever was set.",
    "templates": "One row per template.",
    "playbook_executions": "One row per run of a playbook.",
    "phases": "One row per playbook and phase.",
    "playbook_steps": "One row per playbook and step that was started, skipped or remembered.",
    "checkpoints": "One row per checkpoint; what it holds lies in the object store `BRAIN_BLOBS`.",
    "phase_summaries": "What was last said of each phase.",
    "inputs": "One row per question that a playbook asked.",
    "task_ir": "One row per task: phases that go from engine to engine.",
    "task_phases": "One row per task and phase.",
    "handoffs": "One row per handoff of a phase of a task, from engine to engine.",
    "artifacts": "One row per artifact that ever was registered.",
    "workspaces": "One row per workspace.",
    "dead_letters": "Executions that were lost with their workers again and again and are parked: "
    "rows of `executions` that nobody has discarded.",
    "nodes": "One row per node that ever was on this log.",
    "findings": "What a person should look at, open or over.",
    "modules": "Named pools of workers, and what each is to be.",
    "workers": "The processes in which workers of modules run, those that are gone too.",
    "plugins": "Plugins, and what each said of itself when it was last loaded.",
    "decisions": "One row per decision about a module, with all that it was decided on.",
    "execution_usage": "Samples of what running executions use, of the last seven days. "
    "**Not folded from the log**: lost with the file, and without a past.",
    "output_index": "How much output is stored. "
    "**Not folded from the log**: lost with the file, and without a past.",
    "projection_bookmarks": "How far each table is.",
}
REASONS = {
    "command_failed": "it ended by itself with a code other than 0, or by a signal",
    "job_failed": "its handler raised an error, or returned what cannot be kept",
    "spawn_failed": "it could not be started: no such program, no permission, no such folder",
    "timeout": "it ran longer than `timeout_ms`; the status is `timed_out`",
    "cancelled": "somebody wanted it stopped; the status is `cancelled`",
    "lost": "nobody can say how it ended: its keeper and its node, or the machine, went away",
    "output_limit": "it wrote more than `limits.output_bytes`",
    "poisoned": "three attempts in a row were lost",
    "io": "its files could not be made or read",
}

AGENTS = """# MCP

The server `brain`, for agents: `hindbrain mcp` over standard input and output, `<http_url>/mcp` over
streamable HTTP ([how to connect](../guides/agents.md)). An answer is data (`structuredContent`), and the
same as JSON in text. A refusal is an answer with `isError`: its text is `code: sentence`, its data
`{"error": {"code", "message", "details"}}`, with the codes of [errors](errors.md). A token counts as
three bytes of UTF-8, rounded up.

What the server tells every agent:

"""
TASKS = """An address that leads nowhere is an error of the protocol (-32602), with our error as its
`data`. Resources of plugins have addresses of their own and are listed beside these. Output beyond
256 KiB is shown with its beginning and its end; a line between them says how much was left out.

# Tools of plugins

Beside these, every tool of a plugin that the caller may use, by its own name and with its own schema, and
every job that no tool stands for, as `<plugin>-<job>`. An answer that is no object stands under `result`.
`notifications/tools/list_changed` and `notifications/resources/list_changed` go to whoever listens
(`subscriptions/listen`, over both transports) and, over standard output, to clients of older versions.

# Tasks

Clients that declare the extension `io.modelcontextprotocol/tasks` (2026-07-28) with a call of `execute`,
`plan_submit` or a tool of a plugin that queues a job get a task in place of the answer, once the work is
stored. Its `taskId` is the id of the
execution or plan, `ttlMs` is null (it is never forgotten), and `pollIntervalMs` grows from 500 to 5000
with its age.

| status | when |
| --- | --- |
| `working` | held, queued, running or paused; `statusMessage` says how far |
| `completed` | it is over; `result` is that of the tool call, with `isError` unless it ended well |
| `cancelled` | somebody stopped it |

`tasks/get`, `tasks/cancel` and `tasks/update` are answered; nothing asks for input yet, so answers for it
are ignored. An unknown id is -32602, a client that did not declare the extension gets -32021.

Who sends `subscriptions/listen` with `taskIds` (50 at most) hears in the acknowledgement which of them are
tasks, then how each stands, and then of each change: `notifications/tasks` says what `tasks/get` would.
"""

HTTP = """# HTTP

The door of a node, by default on `http://localhost:8888`; `hindbrain info` says where it is. `GET
/openapi.json` describes all of it for programs (OpenAPI 3.1).

"""
PEOPLE = (
    (
        "`GET /executions/{id}/pieces`",
        "Output between two places, `from` and `until` written as an `id:` of its stream: "
        '`{"pieces": [...]}`.',
    ),
    (
        "`GET /executions/{id}/play`",
        "Its output once more as server-sent events, `speed` times as quick as it came.",
    ),
    (
        "`GET /executions/{id}/download`",
        "All output until now as a file; `stream` is `stdout`, `stderr` or `both`, merged by time.",
    ),
    (
        "`GET /executions`, `/plans`, `/plans/{id}`, `/playbooks`, `/playbooks/{id}`, `/schedules`, "
        "`/modules`, `/decisions`, `/dead`, `/sql`, `/search`, `/log/{kind}/{id}`, `/submit`",
        "[pages](../guides/dashboard.md).",
    ),
    (
        "`POST /submit`, `POST /do/{kind}/{verb}`",
        "The forms of pages, as a browser sends them; answered with the page that shows what came of it.",
    ),
    (
        "`GET /live`",
        "What a page hears: `event: changed` with the log's last sequence, `event: tick` with the time.",
    ),
    (
        "`GET /static`",
        "The style, the scripts and the icon.",
    ),
)
SOCKET = (
    "How far everything is, live, over a WebSocket; with `?id=` (at most 50) only those, until their end."
)
HTTP_MORE = """A page is sent when `Accept` prefers `text/html` to JSON. A body may have 200 MiB, at `/mcp`
16 MiB; `stdout` and `stderr` of an execution are cut at 1 MiB each, and `truncated` says so. An error has the
status and the shape of [errors](errors.md). A `traceparent` header (W3C Trace Context) of a request is kept
by what it submits. `/readyz` answers 503 with an error whose `details` name what does not answer within two
seconds; scrapes of `/metrics` within a second get the same [figures](metrics.md).

## Server-sent events

Of an execution: output comes without an `event:` line, `data: {"stream", "offset", "time", "text"}`.
Others are `event: progress`, with what `brain.progress.execution.<id>` says, and at last `event: end`
with the execution. A plan has `progress` and `end`.

`/events` tells facts, `event: fact` with the fact and its envelope as [`execution
events`](commands.md#execution-events) shows them: from now on, or behind `?after=` a sequence; `?kind=`
and `?entity=` choose. It has no end.

Each message that can be come back to has an opaque `id:`; send the last one as `Last-Event-ID` (of an
execution also as `?after=`) and the
stream goes on behind it, without a gap or a repeat. After 15 seconds without a word comes a comment.
Whoever takes nothing for 20 seconds is dropped and may come back in the same way.

## Who may

The door listens on the loopback. Whoever wants it elsewhere (`http.host`) must set `http.token`, and then
every request but `/healthz`, `/readyz` and `/open` needs `Authorization: Bearer <token>`, or the cookie that
a browser gets by `hindbrain open`; a wrong one is answered with 401. Without a token, the `Host` header has
to be a name of this machine (421). Whatever a page of another origin asks is refused (403), reading too; only
a link to here may be followed.

`hindbrain open` prints or opens an address with a ticket that holds once and for a minute. It is signed
with `door.key` in the data folder, so whoever may read that folder may come in; the cookie holds for 30
days, or until that file is removed.

## Verbs

"""
