"""The word for the examples of a dataset, in everything that people read: pictures, rows, series or points."""

from typing import NamedTuple


class Noun(NamedTuple):
    """The singular and the plural of the word, and the argument for a file of such examples, as a command shows it."""

    one: str
    many: str
    file: str

    def counted(self, number: int) -> str:
        """A number of examples.

        >>> ROW.counted(1), ROW.counted(1200), SERIES.counted(2)
        ('1 row', '1,200 rows', '2 series')
        """
        return f"{number:,} {self.one if number == 1 else self.many}"


PICTURE = Noun("picture", "pictures", "PICTURE")
ROW = Noun("row", "rows", "FILE.csv")
SERIES = Noun("series", "series", "FILE.npz")
POINT = Noun("point", "points", "FILE")
