"""Checks of the options of `finetune`, made before the work begins."""

from pathlib import Path

from metalearn_cli.cli.outputs import require_page, require_receiver, require_writable
from metalearn_cli.cli.presence import require_checkpoint
from metalearn_cli.errors import ConfigError
from metalearn_cli.storage.runs.classifier_forms import require_form


def check_options(
    checkpoint: Path | None, config: str | None, support: Path | None, query: list[Path] | None,
    files: tuple[Path | None, Path | None, Path | None],
) -> None:  # fmt: skip
    """Raise ConfigError if options contradict each other, or if a file cannot be written.

    `files` are those of --output, --csv and --report.
    """
    output = files[0]
    if (checkpoint is None) == (config is None):
        raise ConfigError("give either --checkpoint FILE, or --config photos, which needs no training")
    if config is not None and support is None:
        raise ConfigError("--config: needs --support, a folder with one sub-folder of pictures per class")
    if support is None and query is None and output is None:
        raise ConfigError("--support is missing: a folder with one sub-folder of pictures per class, or a table")
    may_grow = support is not None and output is not None and output.suffix == ".pt"
    _require_files([] if checkpoint is None else [checkpoint], query, files, may_grow)
    if checkpoint is not None:
        require_checkpoint(checkpoint)


def _require_files(
    read: list[Path], query: list[Path] | None, files: tuple[Path | None, Path | None, Path | None], may_grow: bool
) -> None:  # fmt: skip
    output, csv, report = files
    for option, path in (("--csv", csv), ("--report", report)):
        if path is not None and query is None:
            raise ConfigError(f"{option}: there are no queries to write; give --query")
    if output is not None:
        require_writable("--output", output, "mine.pt", [] if may_grow else read)
    if csv is not None:
        require_receiver("--csv", csv, "mine.csv", read)
    if report is not None:
        require_page(report, read, charts=False)
    if output is not None:
        require_form(output)
    written = [path.resolve() for path in files if path is not None]
    if len(set(written)) < len(written):
        raise ConfigError("--output, --csv and --report: two of them name the same file; give each its own")


def check_coverage(coverage: float | None, query: list[Path] | None) -> None:
    """Raise ConfigError if --coverage is no fraction, or if there are no queries."""
    if coverage is None:
        return
    if not 0 < coverage < 1:
        raise ConfigError(f"--coverage: found {coverage}, expected a fraction between 0 and 1, such as 0.9 for 90 %")
    if query is None:
        raise ConfigError("--coverage: there are no queries to give sets for; give --query")
