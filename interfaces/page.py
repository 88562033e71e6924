"""Two plain pages: what ran, and one execution with its live output.  Everything shown is escaped."""

from collections.abc import Sequence
from html import escape
from typing import Any

from events.service import Execution

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1c1e21; background: #fff }
h1 { font-size: 1.3rem } a { color: #0b5bd3 } code, pre { font: 13px/1.45 ui-monospace, monospace }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .8rem .25rem 0;
       border-bottom: 1px solid #8884; vertical-align: top } th { font-weight: 600; white-space: nowrap }
pre { background: #14161a; color: #e6e6e6; padding: 1rem; border-radius: 6px; overflow: auto;
      max-height: 60vh; white-space: pre-wrap; overflow-wrap: anywhere }
.stderr { color: #ff9d8a } progress { width: 20rem; vertical-align: middle }
.completed { color: #15803d } .failed, .timed_out { color: #c02626 } .running { color: #0369a1 }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #1b1d21 } a { color: #7db4ff } }
"""

_SCRIPT = """
const $ = (id) => document.getElementById(id);
const output = $("output"), most = 2000;
const source = new EventSource(location.pathname.replace(/\\/$/, "") + "/stream");
source.onmessage = (message) => {
  const piece = JSON.parse(message.data), part = document.createElement("span");
  const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 8;
  part.className = piece.stream;
  part.textContent = piece.text;
  output.append(part);
  while (output.childNodes.length > most) output.firstChild.remove();
  if (atEnd) output.scrollTop = output.scrollHeight;
};
const status = (word) => { $("status").textContent = word; $("status").className = word; };
source.addEventListener("progress", (message) => {
  const step = JSON.parse(message.data), bar = $("bar");
  status(step.status);
  $("text").textContent = [step.text, step.message].filter(Boolean).join(" ");
  bar.hidden = step.fraction === null || step.fraction === undefined;
  if (!bar.hidden) bar.value = step.fraction;
});
source.addEventListener("end", (message) => {
  const execution = JSON.parse(message.data);
  source.close();
  status(execution.status);
  $("exit").textContent = execution.exit_code ?? "-";
  $("text").textContent = execution.error ? execution.error.message : execution.progress ?? "";
});
"""

_BAR = '<progress id="bar" max="1" hidden></progress>'


def execution(now: Execution, nonce: str) -> str:
    """Write the page of one execution; its script fills in the output."""
    rows = [
        ("Command", f"<code>{escape(now.command)}</code>"),
        ("Description", _text(now.description)),
        ("Status", f'<b id="status" class="{escape(now.status)}">{escape(now.status)}</b>'),
        (
            "Progress",
            f'<progress id="bar" max="1" hidden></progress> <span id="text">{_text(now.progress)}</span>',
        ),
        ("Started", _text(now.started_at)),
        ("Exit code", f'<span id="exit">{_text(now.exit_code)}</span>'),
        ("Node", _text(now.node)),
        ("Labels", _text(", ".join(now.labels))),
    ]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    content = (
        f'<p><a href="/">all executions</a></p><h1>{escape(now.id)}</h1><table>{body}</table>'
        f'<h1>Output</h1><pre id="output" aria-live="off"></pre><script nonce="{nonce}">{_SCRIPT}</script>'
    )
    return _page(now.description or now.command, content, nonce)


def index(found: Sequence[dict[str, Any]], nonce: str) -> str:
    """Write the page that lists executions."""
    rows = "".join(
        f'<tr><td><a href="/executions/{escape(row["id"])}">{escape(row["id"][:14])}...</a></td>'
        f'<td class="{escape(row["status"])}">{escape(row["status"])}</td>'
        f"<td>{_text(row.get('started_at'))}</td>"
        f"<td>{_text(row.get('progress'))}</td>"
        f"<td><code>{_text(row.get('description') or row.get('command'))}</code></td></tr>"
        for row in found
    )
    head = "<tr><th>Id</th><th>Status</th><th>Started</th><th>Progress</th><th>Command</th></tr>"
    empty = "" if found else "<p>Nothing has run yet: <code>hindbrain run -- COMMAND</code></p>"
    return _page("Executions", f"<h1>Executions</h1><table>{head}{rows}</table>{empty}", nonce)


def _page(title: str, content: str, nonce: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)} - Hindbrain</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style nonce="{nonce}">{_STYLE}</style></head><body>{content}</body></html>'
    )


def _text(value: Any) -> str:
    return "-" if value in (None, "") else escape(str(value))
