"""Settings from configs/, as the campaign loader would hand them over."""

import json
from pathlib import Path
from typing import Any

import yaml

from cp2.settings.datasets import ClassList

CONFIGS = Path(__file__).parents[2] / "configs"


def read_yaml(path: Path, **changes: Any) -> str:
    return json.dumps(yaml.safe_load(path.read_text()) | {"name": path.stem} | changes)


def class_list(name: str) -> ClassList:
    return ClassList.model_validate_json(read_yaml(CONFIGS / "classes" / f"{name}.yaml"))
