"""The rows of PHOTOS.md: each is one training and one measurement by metalearn itself."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent
RESULTS = FOLDER / "results" / "photos"
EPISODES = 600
SIZES = (224, 84)
_MLP = "backbone={name: mlp, hidden: [256]}"
_LONGER = ["outer.iterations=500", "outer.lr=0.001", "eval.every=100"]


class Row(NamedTuple):
    """A learner of the photos of one size: what it is called, its config, its overrides, and how it is measured."""

    learner: str
    size: int
    label: str
    config: str
    train: tuple[str, ...]
    measure: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it is typed after `--only`, and as its file is called: `prototypes-224`."""
        return f"{self.learner}-{self.size}"

    @property
    def title(self) -> str:
        """The title of the prepared photos."""
        return f"grocery{self.size}"

    @property
    def result(self) -> Path:
        """The file that keeps what was measured."""
        return RESULTS / f"{self.name}.json"

    def prepare(self, source: str) -> list[str]:
        """The command that stores the photos in `source`, and their features where the row sees any."""
        features = ["--features", "efficientnet_lite"] if self.config == "photos" else []
        given = [f"dataset.title={self.title}", *(one for one in self.train if one.startswith("dataset."))]
        return ["prepare", "folder", "--source", source, *features, *_sets(given)]

    def trained(self, folder: str) -> list[str]:
        """The command that trains it into a folder."""
        given = _sets([f"dataset.title={self.title}", *self.train])
        return ["train", self.config, "--run-dir", folder, *given]

    def measured(self, folder: str) -> list[str]:
        """The command that measures it."""
        best, episodes = f"{folder}/checkpoints/best.pt", f"eval.val_episodes={EPISODES}"
        return ["eval", "--checkpoint", best, "--episodes", str(EPISODES), *_sets([episodes, *self.measure])]


def _sets(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def _on_an_mlp(name: str, size: int) -> Row:
    return Row(name, size, f"`{name}` on an mlp of features", "photos", (f"algorithm={{name: {name}}}", _MLP, *_LONGER))


def rows() -> list[Row]:
    """All rows, in the order in which they are run: the cheap ones first."""
    found = []
    for size in SIZES:
        found += [
            Row("prototypes", size, "class means, whitened by 52 training classes (`prototypes`)", "photos", ()),
            Row("metaqda", size, "`metaqda`", "photos", ("algorithm={name: metaqda}",)),
        ]
    for size in SIZES:
        found += [
            Row("all-classes", size, "all 16 classes at once, whitened class means", "photos", (), ("eval.ways=16",)),
            Row("ridge", size, "ridge head on a linear map (`r2d2`, `linear`)", "photos",
                ("algorithm={name: r2d2}", "backbone={name: linear}", "outer.iterations=1")),
            *(_on_an_mlp(name, size) for name in ("protonet", "r2d2", "anil", "maml")),
        ]  # fmt: skip
    lite2 = "dataset.features.variant=lite2"
    found += [
        Row("prototypes-lite2", 224, "`prototypes` on features of EfficientNet-Lite2", "photos", (lite2,)),
        Row("metaqda-lite2", 224, "`metaqda` on features of EfficientNet-Lite2", "photos",
            (lite2, "algorithm={name: metaqda}")),
    ]  # fmt: skip
    return [*found, Row("scratch", 84, "`conv4` from scratch (`photos/5way5shot`)", "photos/5way5shot", ())]
