"""The version of metalearn; open to all rooms."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The installed version, or "not installed" if metalearn runs from a checkout."""
    try:
        return version("metalearn-cli")
    except PackageNotFoundError:
        return "not installed"
