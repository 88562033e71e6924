"""What concerns the shell more than the node."""

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_verb(shell: str) -> None:
    r"""Print the completion script of a shell.

    \b
    eval "$(hindbrain completion bash)"
    """
    from click.shell_completion import get_completion_class

    from interfaces.cli import cli

    script = get_completion_class(shell)
    if script is None:
        raise click.ClickException(f"click cannot complete for {shell}")
    click.echo(script(cli, {}, "hindbrain", "_HINDBRAIN_COMPLETE").source())


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def version_verb(as_json: bool) -> None:
    r"""Print the version of this program.

    \b
    hindbrain version
    """
    import json
    from importlib import metadata

    number = metadata.version("hindbrain")
    click.echo(json.dumps({"version": number}) if as_json else f"hindbrain {number}")
