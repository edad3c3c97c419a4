"""The small known tasks that tests share; an outsider's checks use the same."""

from metalearn_cli.testing.problems import (
    SHAPE,
    WAYS,
    double,
    flat,
    for_tasks,
    picture_tasks,
    slope_by_differences,
    smooth_module,
    smooth_network,
    value_tasks,
)

__all__ = [
    "SHAPE",
    "WAYS",
    "double",
    "flat",
    "for_tasks",
    "picture_tasks",
    "slope_by_differences",
    "smooth_module",
    "smooth_network",
    "value_tasks",
]
