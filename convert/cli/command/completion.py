"""`modelwright completion`: the script that teaches a shell to complete commands, options and recipes."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, recipes and targets.

    \b
    bash:  eval "$(modelwright completion bash)"     in ~/.bashrc
    zsh:   eval "$(modelwright completion zsh)"      in ~/.zshrc, after compinit
    fish:  modelwright completion fish | source      in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - for this alone

    program = click.get_current_context().find_root()
    name = str(program.info_name)
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not known here")
    click.echo(kind(program.command, {}, name, f"_{name.upper()}_COMPLETE").source())
