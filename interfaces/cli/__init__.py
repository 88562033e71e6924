"""The command line.  Every verb lies in a file of its group, read when it is used: starting is quick."""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from actors import heap

VERBS = {
    "up": ("node", "Start a node and stay in the foreground."),
    "down": ("node", "Stop the node; what runs goes on unless told otherwise."),
    "info": ("node", "Where the node is and how to reach it."),
    "settings": ("node", "All settings with their origin."),
    "actors": ("node", "All actors of the node."),
    "doctor": ("health", "Look whether all is well; --verify checks the whole log."),
    "run": ("run", "Run a command, show its output, end as it ends."),
    "submit": ("run", "Run a command in the background; the same as run --detach."),
    "status": ("work", "One execution as it is now."),
    "why": ("why", "Why something waits, runs, or ended as it did."),
    "list": ("work", "Executions, newest first."),
    "wait": ("work", "Wait for the end of an execution, and end as it ended."),
    "result": ("work", "Exit code and output of an execution that is over."),
    "cancel": ("work", "Stop an execution with its whole process tree."),
    "retry": ("work", "Run the same again as a new execution."),
    "reorder": ("work", "Change the place of an execution that waits."),
    "plan": ("plan", "Run plans: many executions in an order, from a file."),
    "batch": ("batch", "Run the same command for many items."),
    "template": ("template", "Keep plans under a name, and start them."),
    "playbook": ("playbook", "Run playbooks: long chains that go on where they stopped."),
    "task": ("task", "Tasks: phases that go from engine to engine."),
    "artifact": ("artifact", "Keep files under their hash, and get them back."),
    "workspace": ("workspace", "Folders that playbooks share."),
    "schedule": ("schedule", "Run something later, or again and again."),
    "limit": ("limit", "Limit how much runs at once."),
    "job": ("job", "Run jobs of plugins, and see which there are."),
    "plugin": ("plugin", "Plugins and their tools; each tool is a verb, too."),
    "module": ("module", "Look after modules: pools of workers."),
    "dead": ("dead", "What lost its worker three times, and was parked."),
    "undo": ("undo", "Take back a pause, a limit, an order or a template."),
    "decisions": ("scaler", "What was decided about modules, and why."),
    "scaler": ("scaler", "Try out how the scaler would decide."),
    "watch": ("watch", "Watch what goes on, full screen."),
    "search": ("watch", "Look for words in commands, labels, errors and output."),
    "logs": ("output", "What an execution wrote, unchanged."),
    "progress": ("mark", "Say how far it is, from inside a command."),
    "events": ("look", "The facts of one execution."),
    "replay": ("look", "The life of one execution, or the whole log as a DuckDB file."),
    "diff": ("difference", "Where two executions part."),
    "sql": ("look", "Ask the tables, now or as of any past moment."),
    "rebuild": ("look", "Fold all tables again from the stored events."),
    "export": ("carry", "Pack executions, plans and playbooks into one file that can be read anywhere."),
    "import": ("carry", "Open such a file as a DuckDB file, without a node."),
    "open": ("open", "Open the dashboard in a browser."),
    "call": ("call", "Call a tool of an MCP server that the settings name."),
    "chat": ("chat", "Show what goes on in a chat, and take commands there."),
    "mcp": ("mcp", "Serve an agent (MCP) over standard input and output."),
    "completion": ("shell", "The completion script of a shell."),
    "version": ("shell", "The version of this program."),
}
"""Where each verb lies, and the first line of its help."""

REFUSED, NO_NODE, GAVE_UP, BROKEN, INTERRUPTED = 2, 3, 4, 125, 130


class Verbs(click.Group):
    """Knows all verbs, and reads the code of the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Every verb, in the order in which they are needed."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """Read the file where the verb lies."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"interfaces.cli.{VERBS[cmd_name][0]}")
        return _drawn(getattr(module, f"{cmd_name}_verb"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            return args[0], _tool(ctx, args), args[1:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """List the verbs without reading any of their files."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


def _tool(ctx: click.Context, args: list[str]) -> click.Command:
    """Make a verb of a tool of the running node, or say what was probably meant."""
    import difflib

    from events.errors import Trouble
    from interfaces.cli import tools

    known, why = [*VERBS], ""
    try:
        tool, more = tools.find(args[0], args[1:])
        if tool is not None:
            return tool
        known += more
    except Trouble as error:
        why = f" It may be a tool of a plugin, but {error.message}."
    near = difflib.get_close_matches(args[0], known, 1)
    meant = f" Did you mean '{near[0]}'?" if near else why
    raise click.UsageError(f"No such verb '{args[0]}'.{meant}", ctx)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    r"""Run things in the background and never forget what happened.

    \b
    hindbrain run -- make test            run it and watch
    hindbrain submit --shell -- 'make; ls'  run it in the background
    hindbrain list                        what runs, what ran
    """


def _drawn(verb: click.Command) -> click.Command:
    """Have click keep the lines of examples: the mark for it is one character, docstrings spell it."""
    verb.help = (verb.help or "").replace("\\b\n", "\b\n")
    if isinstance(verb, click.Group) and not isinstance(verb, Verbs):
        for each in verb.commands.values():
            _drawn(each)
    return verb


_drawn(cli)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Do what the command line says; the exit code tells how it went."""
    heap.widen()  # reading the code of a verb makes much, and no garbage
    code = _guarded(list(sys.argv[1:] if arguments is None else arguments))
    heap.leave()
    sys.exit(code)


def _guarded(given: list[str]) -> int:
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        code: Any = cli.main(given, "hindbrain", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        if as_json:
            return _object("validation", f"Validation error: {error.format_message()}")
        error.show()
        return REFUSED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain when it flushes at its end; nobody is there to read that either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception as error:
        from events.errors import HindbrainError, Refusal, Timeout, Unavailable

        if not isinstance(error, HindbrainError):
            raise
        if as_json:
            _object(error.code, error.message, error.details)
        else:
            click.echo(f"{click.style('hindbrain:', fg='red', bold=True)} {error.message}", err=True)
        if isinstance(error, Refusal):
            return REFUSED
        return NO_NODE if isinstance(error, Unavailable | Timeout) else BROKEN
    return code if isinstance(code, int) else 0


def _object(code: str, message: str, details: dict[str, Any] | None = None) -> int:
    click.echo(json.dumps({"error": {"code": code, "message": message, "details": details or {}}}))
    return REFUSED
