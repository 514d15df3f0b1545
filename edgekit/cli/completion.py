"""`edgekit completion bash|zsh|fish`."""

from __future__ import annotations

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.cli.shared.output import echo_script


@edgekit_command("completion", short_help="Print the script that completes edgekit's commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str, reporter: Reporter) -> CommandResult:
    """Print the script with which SHELL completes commands, options, targets, recipes, runs, artifacts, tasks, SETs,
    formats, methods, and the classes in net.py:Net.

    \b
    bash   echo 'eval "$(edgekit completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(edgekit completion zsh)"' >> ~/.zshrc
    fish   edgekit completion fish > ~/.config/fish/completions/edgekit.fish
    """
    from edgekit.cli.shared.shells import script

    context = click.get_current_context().find_root()
    assert isinstance(context.command, click.Group)
    text = script(context.command, shell)
    return CommandResult(lambda: echo_script(text), result={"shell": shell, "script": text})
