"""What a run of iMAML says of the tasks whose system is not positive definite."""

import pytest

from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.runtime.run.reports import row, scalars
from metalearn_cli.runtime.run.training import Watch
from tests.commands import TINY

UNDAMPED = {"name": "imaml", "strength": 0.01, "cg_damping": 0.0, "strength_damping": 0.0}


def trained(path, data_dir, algorithm):
    (path / "checkpoints").mkdir()
    experiment = from_mapping(TINY | {"algorithm": algorithm}, "test")
    session = sessions.session_for(experiment, path, data_dir=data_dir)
    heard = []
    with running(session.plan) as runner:
        reports = list(training.loop(session, runner, sessions.start(session, False), Watch(say=heard.append)))
    return reports, heard


def test_the_share_that_is_cut_short_is_in_every_report_and_said_once(data_dir, tmp_path):
    reports, heard = trained(tmp_path, data_dir, UNDAMPED)
    assert [report.cut_short for report in reports] == [1.0, 1.0]
    assert row(reports[0])["cut_short"] == scalars(reports[0])["train/cut short"] == 1.0
    assert [line.partition(" negative")[0] for line in heard] == ["in 2 of 2 tasks"]


@pytest.mark.parametrize(
    ("algorithm", "share"), [({"name": "imaml", "cg_damping": 1e6}, 0.0), ({"name": "maml"}, None)]
)
def test_where_none_is_nothing_is_said(data_dir, tmp_path, algorithm, share):
    reports, heard = trained(tmp_path, data_dir, algorithm)
    assert [report.cut_short for report in reports] == [share] * 2
    assert not heard
    assert ("train/cut short" in scalars(reports[0])) == (share is not None)
