"""Checks that the files of a command exist, made before torch is imported, because that takes seconds."""

from pathlib import Path
from typing import Any

from metalearn_cli.errors import CheckpointError, ConfigError

_MOST_NAMED = 5


def require_checkpoint(path: Path) -> None:
    """Raise CheckpointError if there is no such file or folder; the message names the checkpoints beside it."""
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, a folder without permission
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if not there:
        raise CheckpointError(f"{path}: no such file{_instead(path)}")


def run_to_resume(config: str, run_dir: Path | None, resume: bool) -> tuple[str, Path | None]:
    """The experiment file and the run folder of `train`. With `resume`, `config` may be a run folder, which has both.

    Raises ConfigError if it is a folder that cannot be resumed.
    """
    from metalearn_cli.experiment import shipped

    folder = Path(config)
    kept = folder / "config.yaml"
    if not folder.is_dir() or config in shipped():
        return config, run_dir
    if not kept.is_file():
        raise ConfigError(f"{config}: is a folder without config.yaml; expected an experiment file, or a run's folder")
    if not resume:
        raise ConfigError(f"{config}: is the folder of a run; add --resume to go on with it, or name {kept}")
    if run_dir is not None and run_dir.resolve() != folder.resolve():
        raise ConfigError(f"--run-dir {run_dir}: the run to go on with is {config}; leave --run-dir out")
    return str(kept), folder


def _instead(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    if path.name == "best.pt" and folder.name == "checkpoints" and (when := _validation(folder.parent)):
        return when
    files = sorted(file.name for file in folder.glob("*.pt"))
    more = ", ..." if len(files) > _MOST_NAMED else ""
    return f"; in this folder there are {', '.join(files[:_MOST_NAMED])}{more}" if files else ""


def _validation(run: Path) -> str:
    """The reason why a run has no best checkpoint, as the end of a message; "" if its files do not tell."""
    from metalearn_cli.experiment import yaml_lines
    from metalearn_cli.experiment.blocks import Eval

    try:
        values: dict[str, Any] = yaml_lines.read(run / "config.yaml").values
        every, iterations = values["eval"]["every"], int(values["outer"]["iterations"])
        first = min(Eval.model_validate({"every": every}).first, iterations)
    except (ConfigError, KeyError, TypeError, ValueError):
        return ""
    last = run / "checkpoints" / "last.pt"
    so_far = f"; until then there is {last}" if last.exists() else ""
    metrics = run / "metrics.jsonl"
    if metrics.exists() and metrics.stat().st_size:
        return f"; no validation of this run had a finite score{so_far.replace('until then ', '')}"
    return f"; the best checkpoint comes with the first validation, at iteration {first:,}{so_far}"
