"""The commands, one file each. Only this folder imports typer and rich; torch is imported inside the commands."""

import typer

from metalearn_cli.cli import evaluate, finetune, info, prepare, train
from metalearn_cli.cli.arguments import Command
from metalearn_cli.cli.options import Version

app = typer.Typer(
    name="metalearn",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("prepare", cls=Command)(prepare.prepare)
app.command("train", cls=Command, epilog=train.EPILOG)(train.train)
app.command("eval", cls=Command)(evaluate.evaluate)
app.command("finetune", cls=Command)(finetune.finetune)
app.command("info", cls=Command)(info.info)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    _version: Version = False,
) -> None:
    """Train, check and use MAML-family few-shot learners."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
