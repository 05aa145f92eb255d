"""Hashes of settings: the same content gives the same digest, whatever its order."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """Sha256 of the canonical JSON, 64 hex digits; run ids use the first 8."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
