"""The rim: one file per command. The only room that imports typer and rich; torch is imported inside commands."""

import typer

from metalearn_cli.cli import evaluate, finetune, prepare, train
from metalearn_cli.cli.options import version_asked

app = typer.Typer(
    name="metalearn",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("prepare")(prepare.prepare)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("eval")(evaluate.evaluate)
app.command("finetune")(finetune.finetune)


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=version_asked, help="Print the version."),
) -> None:
    """Train, check and use MAML-family few-shot learners."""
