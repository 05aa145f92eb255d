"""Where a run's first weights come from."""

from pathlib import Path

from cp2.models.weights import State, load_weights
from cp2.stages import weights_of


class Origin:
    """The weights of a checkpoint or of a finished pretraining.

    Args:
        key: "checkpoint/<name>" or "pretrain/<run id>".
        results: folder of all results.
    Raises:
        WrongFile: the file is missing or damaged.
    """

    def __init__(self, key: str, results: Path) -> None:
        self.path = weights_of(key, results)
        self.parts, self.metadata = load_weights(self.path)

    @property
    def backbone(self) -> State:
        return self.parts["backbone"]

    @property
    def head(self) -> State | None:
        return self.parts.get("head")
