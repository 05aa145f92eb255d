"""Where a run's first weights come from."""

from pathlib import Path

from cp2.models.weights import State, load_weights


class Origin:
    """The weights of a checkpoint or of a finished pretraining.

    Args:
        key: "checkpoint/<name>" or "pretrain/<run id>".
        results: folder of all results.
    Raises:
        WrongFile: the file is missing or damaged.
    """

    def __init__(self, key: str, results: Path) -> None:
        stage, _, run_id = key.partition("/")
        self.path = (
            results / "checkpoints" / run_id / "backbone.safetensors"
            if stage == "checkpoint"
            else results / "pretrain" / run_id / "model.safetensors"
        )
        self.parts, self.metadata = load_weights(self.path)

    @property
    def backbone(self) -> State:
        return self.parts["backbone"]

    @property
    def head(self) -> State | None:
        return self.parts.get("head")
