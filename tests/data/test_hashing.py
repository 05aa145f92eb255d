import hashlib
from pathlib import Path

import pytest

from cp2.data.hashing import CHUNK, digest, verify
from cp2.errors import WrongFile


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_digest_equals_hashlib_on_the_whole_content(
    tmp_path: Path, size: int, algorithm: str
) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest(path, algorithm) == hashlib.new(algorithm, content).hexdigest()


def test_verify_accepts_full_hash_prefix_and_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    full = hashlib.sha256(b"content").hexdigest()
    for expected in (f"sha256:{full}", f"sha256:{full[:8]}", None):
        verify(path, expected)


def test_verify_names_file_hashes_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "file.tar"
    path.write_bytes(b"content")
    found = hashlib.md5(b"content").hexdigest()
    with pytest.raises(WrongFile) as caught:
        verify(path, "md5:00000000")
    text = str(caught.value)
    assert str(path) in text
    assert "expected md5 00000000" in text
    assert f"found    md5 {found}" in text
    assert "delete" in text
