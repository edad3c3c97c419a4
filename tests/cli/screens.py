"""Streams that say what they are: a terminal or none, of an encoding."""

import io


class Stream(io.StringIO):
    """A stream in memory, of which `terminal` and `encoding` are as a test wants them."""

    def __init__(self, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal, self._encoding = terminal, encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal
