"""The tables of both pages, from the result files: lines of Markdown."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill

from benchmarks.accuracy.curves import best
from benchmarks.accuracy.results import VERDICTS, Result, core_hours, departures, flat, grouped, score, verdicts
from benchmarks.accuracy.rows import Line, Row, Table, Values


def counts(table: Table, measured: Mapping[Row, Result]) -> Iterator[str]:
    """How many rows of each setting are above a published figure in the same protocol, meet it, or are below it."""
    found = Counter(verdicts(table, measured))
    yield fill(
        "The paper of ProtoNet tested on the characters of `vinyals`, turned ones too: most of their alphabets have no "
        "character in training. The papers of MAML, Meta-SGD, Reptile and MAML++ drew test characters at random from "
        "all alphabets, as the split `maml1200` does. Rows of both splits show what that is worth.",
        118,
    )
    yield ""
    yield f"| setting | published figures | {' | '.join(VERDICTS)} |"
    yield "|---" * (len(VERDICTS) + 2) + "|"
    for setting in dict.fromkeys(setting for setting, _ in found):
        yield _counted(setting, [found[setting, verdict] for verdict in VERDICTS])
    every = [sum(count for (_, said), count in found.items() if said == verdict) for verdict in VERDICTS]
    yield _counted("all", every)


def _counted(setting: str, counted: Sequence[int]) -> str:
    return f"| {setting} | {' | '.join(map(str, (sum(counted), *counted)))} |"


def settings(table: Table, measured: Mapping[Row, Result], depth: str) -> Iterator[str]:
    """A section for each setting of which anything was measured."""
    for domain in table.source["domains"].values():
        for setting, values in domain["settings"].items():
            if groups := grouped(table, measured, setting):
                yield f"{depth} {domain['title']}, {values['task.ways']}-way {values['task.shots']}-shot"
                yield ""
                if "about" in domain:
                    yield from (fill(domain["about"], 118), "")
                tasks = table.experiment(Row("maml", setting, 0))["outer"]["meta_batch_size"]
                yield from (f"Meta-batches of {tasks} tasks.", "")
                yield from _rows(table, setting, groups)
                yield ""


def _rows(table: Table, setting: str, groups: Mapping[Line, Sequence[Result]]) -> Iterator[str]:
    columns = list(table.domain(setting)["columns"])
    yield f"| learner | {', % | '.join(columns)}, % | published | seeds | tasks | core-hours |"
    yield "|---" * (len(columns) + 5) + "|"
    for line in _ordered(groups):
        runs, own = groups[line], table.columns(setting, line)
        cells = [score(runs, line, column).cell if column in own else "" for column in columns]
        hours = "the same runs" if line.also else core_hours(table, runs).cell
        cells += [_published(table, line, setting, runs), str(len(runs)), f"{runs[0]['tasks']:,}", hours]
        yield f"| {_label(table, line, setting, runs)} | {' | '.join(cells)} |"


def _ordered(groups: Mapping[Line, Sequence[Result]]) -> list[Line]:
    """The best in column C first, which every learner has; each line under `also` below the learner of its runs."""

    def place(line: Line) -> tuple[float, Line, str]:
        own = line._replace(also="")
        return -score(groups[own], own, "C").mean, own, line.also

    return sorted(groups, key=place)


def _label(table: Table, line: Line, setting: str, runs: Sequence[Result]) -> str:
    said = table.said(line._replace(also=""), setting).get("departs")
    name = table.said(line, setting)["label"]
    own = Row(line.learner, setting, 0, line.recipe)
    ran = {one for run in runs for one in departures(table, own._replace(seed=run["seed"]), run)}
    notes = [said] * bool(said) + [f"run with {', '.join(sorted(ran))}"] * bool(ran)
    return f"{name} ({'; '.join(notes)})" if notes else name


def _published(table: Table, line: Line, setting: str, runs: Sequence[Result]) -> str:
    said = []
    for column in table.columns(setting, line):
        figure = table.published(line, setting, column)
        if figure is not None:
            said.append(f"{column} {figure:g}: {score(runs, line, column).verdict(figure)}")
    source = table.said(line, setting).get("published", {}).get("source", "")
    return f"{', '.join(said)} ({source})" if said else ""


def search(table: Table, measured: Mapping[Row, Result], depth: str) -> Iterator[str]:
    """The section about the search, if any of its variants was measured."""
    source = table.source["search"]
    line, setting = Line(source["learner"]), source["setting"]
    found = {row: result for row, result in measured.items() if row.searched}
    if not found:
        return
    values, base = table.setting(setting), table.experiment(Row(line.learner, setting, 0, "base"))
    algorithm, outer = base["algorithm"], base["outer"]
    yield f"{depth} Search: {table.said(line, setting)['label']}, {values['task.ways']}-way {values['task.shots']}-shot"
    yield ""
    figure, paper = table.published(line, setting, "A"), table.said(line, setting)["published"]["source"]
    yield fill(
        f"Published: A {figure:g} ({paper}). Each variant changes something in this base: "
        f"inner rate {algorithm['inner_lr']:g}, inner steps {algorithm['inner_steps']}, "
        f"{base['task']['queries']} queries of each class in training, "
        f"outer rate {outer['lr']:g} ({outer['schedule']}), "
        f"{outer['iterations']:,} meta-batches of {outer['meta_batch_size']} tasks, transductive in training. "
        "The order is that of the best validation and not of the test, so that no variant is chosen by test classes. "
        "One seed each.",
        118,
    )
    yield ""
    yield "| variant | changes | best validation, % | A, % | C, % | tasks | core-hours |"
    yield "|---|---|---|---|---|---|---|"
    for row, result in sorted(found.items(), key=lambda item: -best(item[1])):
        changes = _changes(source["variants"].get(row.variant, {}))
        ran = departures(table, row, result) if row.variant in source["variants"] else []
        changes += f" (run with {', '.join(ran)})" if ran else ""
        cells = [score([result], line, column).cell for column in "AC"]
        hours = f"{result['tasks']:,} | {core_hours(table, [result]).cell}"
        yield f"| {row.variant} | {changes or 'nothing'} | {best(result):.2f} | {' | '.join(cells)} | {hours} |"
    yield ""


def recipes(table: Table, measured: Mapping[Row, Result], depth: str) -> Iterator[str]:
    """A section for each setting of which a recipe was measured."""
    for setting, recipe in table.source["recipes"].items():
        if groups := grouped(table, measured, setting, recipes=True):
            domain, values = table.domain(setting), table.setting(setting)
            yield f"{depth} Recipes: {domain['title']}, {values['task.ways']}-way {values['task.shots']}-shot"
            yield ""
            about = (domain.get("about"), recipe["about"], "What each has otherwise than the learner's row:")
            yield fill(" ".join(filter(None, about)), 118)
            yield ""
            for said in [table.said(line, setting) for line in groups if not line.also]:
                yield fill(f"- {said['label']}: {_changes(said['set'])}", 118, subsequent_indent="  ")
            yield ""
            yield from _rows(table, setting, groups)
            yield ""


def _changes(values: Values) -> str:
    """Settings in words, each with its whole key: `outer.lr 0.003, algorithm.zero_head true`."""
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in flat(values).items())
