import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

import cp2.data.transfer as transfer
from cp2.data.download import fetch, used_hash
from cp2.errors import PassingError, UserError, WrongFile
from cp2.settings.datasets import Archive

CONTENT = bytes(i * 7 % 251 for i in range(300_000))
HASH = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Serves CONTENT as /data.zip; the lists say how it misbehaves, one entry a request."""

    url: str
    statuses: list[int] = field(default_factory=list)  # sent instead of an answer
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection breaks
    ranges: bool = True
    content: bytes = CONTENT
    tag: str | None = None  # ETag of the content
    believes: bool = True  # in If-Range
    tells: bool = True  # its ETag in an answer to a range, too
    short: int | None = None  # bytes that one answer to a range brings at most
    length: bool = True  # says how long the content is
    redirects: int = 0
    location: str = "/data.zip"  # that a redirect leads to
    said_length: str | None = None  # Content-Length instead of the true one
    chunks: tuple[bytes, ...] = ()  # sent as Transfer-Encoding: chunked
    kind: str = "application/zip"
    seen: list[str | None] = field(default_factory=list)  # Range header of each request


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "BACKOFF", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            header = self.headers.get("Range")
            state.seen.append(header)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            if state.redirects:
                state.redirects -= 1
                self.send_response(302)
                self.send_header("Location", state.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path != "/data.zip":
                self.send_error(404)
                return
            other = self.headers.get("If-Range", state.tag) != state.tag
            if other and state.believes:
                header = None
            content = state.content
            start = int(header.removeprefix("bytes=").rstrip("-")) if header else 0
            if header and state.ranges and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            partial = header is not None and state.ranges
            body = content[start:][: state.short] if partial else content
            self.send_response(206 if partial else 200)
            if partial:
                self.send_header(
                    "Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(content)}"
                )
            if state.tag and (state.tells or not partial):
                self.send_header("ETag", state.tag)
            if state.length:
                self.send_header("Content-Length", state.said_length or str(len(body)))
            if state.chunks:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in state.chunks) + b"0\r\n\r\n"
            self.send_header("Content-Type", state.kind)
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_port}/data.zip")
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def archive(*urls: str, hash: str | None = HASH, manual: str | None = None) -> Archive:
    return Archive(file="data.zip", urls=urls, hash=hash, manual=manual)  # type: ignore[arg-type]


def put(folder: Path, content: bytes = CONTENT, sums: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "data.zip").write_bytes(content)
    if sums:
        line = f"{hashlib.sha256(content).hexdigest()}  data.zip\n"
        (folder / "SHA256SUMS").write_text("0" * 64 + "  other.zip\n" + line)
    return folder / "data.zip"


# ---- what is here already ----


def test_folder_comes_before_mirrors_and_mirrors_in_their_order(tmp_path: Path) -> None:
    folder, first, second = tmp_path / "folder", tmp_path / "first", tmp_path / "second"
    put(second)
    assert fetch(archive(), folder, [first, second]) == second / "data.zip"
    put(first)
    assert fetch(archive(), folder, [first, second]) == first / "data.zip"
    put(folder)
    assert fetch(archive(), folder, [first, second]) == folder / "data.zip"


def test_mirror_is_used_in_place_and_before_any_url(tmp_path: Path) -> None:
    mirror, folder = tmp_path / "mirror", tmp_path / "folder"
    found = put(mirror)
    assert fetch(archive("http://127.0.0.1:1/none"), folder, [mirror]) == found
    assert not folder.exists()
    assert [path.name for path in mirror.iterdir()] == ["data.zip"]


@pytest.mark.parametrize("place", ["folder", "mirror"])
def test_wrong_file_in_folder_or_mirror_is_named(tmp_path: Path, place: str) -> None:
    wrong = put(tmp_path / place, b"something else")
    with pytest.raises(WrongFile, match="not the file it should be") as caught:
        fetch(archive(), tmp_path / "folder", [tmp_path / "mirror"])
    assert str(wrong) in str(caught.value)
    assert wrong.exists()  # the user's file is the user's to delete


def test_unknown_hash_is_recorded_at_first_use_and_held_to(tmp_path: Path) -> None:
    mirror, folder = tmp_path / "mirror", tmp_path / "folder"
    put(mirror)
    unknown = archive(hash=None)
    fetch(unknown, folder, [mirror])
    assert (folder / "data.zip.sha256").read_text().split()[0] == HASH.removeprefix("sha256:")
    assert used_hash(unknown, folder) == HASH
    fetch(unknown, folder, [mirror])
    put(mirror, b"changed")
    with pytest.raises(WrongFile, match="not the file it should be"):
        fetch(unknown, folder, [mirror])


def test_login_archive_says_how_to_get_it_and_where_to_put_it(tmp_path: Path) -> None:
    login = archive(manual="Register at example.org.")
    with pytest.raises(UserError, match=r"Register at example\.org\.") as caught:
        fetch(login, tmp_path / "folder", [tmp_path / "mirror"])
    assert str(tmp_path / "mirror" / "data.zip") in str(caught.value)
    with pytest.raises(UserError) as caught:
        fetch(login, tmp_path / "folder", [])
    assert str(tmp_path / "folder" / "data.zip") in str(caught.value)


# ---- file:// and SHA256SUMS ----


@pytest.mark.parametrize("name", ["plain", "with space", "100%25", "c#"])
def test_file_url_is_copied_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    source = put(tmp_path / name, sums=True)
    for url in (f"file://{source}", source.as_uri()):
        folder = tmp_path / f"folder{len(url)}"
        path = fetch(archive(url, hash="sums"), folder)
        assert path == folder / "data.zip"
        assert path.read_bytes() == CONTENT
        assert sorted(p.name for p in folder.iterdir()) == ["data.zip", "data.zip.sha256"]


def test_sums_catch_a_damaged_archive(tmp_path: Path) -> None:
    source = put(tmp_path / "world", sums=True)
    source.write_bytes(CONTENT[:-1])
    with pytest.raises(WrongFile, match="not the file it should be"):
        fetch(archive(f"file://{source}", hash="sums"), tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []
    with pytest.raises(WrongFile, match="not the file it should be"):
        fetch(archive(hash="sums"), tmp_path / "folder", [tmp_path / "world"])


def test_sums_without_a_line_for_the_file(tmp_path: Path) -> None:
    source = put(tmp_path / "world")
    (tmp_path / "world" / "SHA256SUMS").write_text("0" * 64 + "  other.zip\n")
    with pytest.raises(WrongFile, match=r"has no line for data\.zip"):
        fetch(archive(f"file://{source}", hash="sums"), tmp_path / "folder")


def test_a_world_made_anew_is_fetched_anew(tmp_path: Path) -> None:
    source = put(tmp_path / "world", sums=True)
    wanted = archive(f"file://{source}", hash="sums")
    fetch(wanted, tmp_path / "folder")
    put(tmp_path / "world", b"another world", sums=True)
    assert fetch(wanted, tmp_path / "folder").read_bytes() == b"another world"
    source.unlink()
    (tmp_path / "world" / "SHA256SUMS").unlink()
    assert fetch(wanted, tmp_path / "folder").read_bytes() == b"another world"


@pytest.mark.parametrize(
    "write",
    [
        lambda digits: f"{digits}  data.zip\r\n".encode("utf-16"),
        lambda digits: f"{digits}  data.zip\n".encode("utf-8-sig"),
        lambda digits: f"{digits.upper()} *./data.zip\n".encode(),
        lambda digits: b"0  \xfc.zip\n" + f"{digits}  data.zip".encode(),
        lambda digits: f"SHA256 (x) = 0\nSHA256 (./data.zip) = {digits}\n".encode(),
        lambda digits: f"SHA2-256(data.zip)= {digits}\r\n".encode(),
    ],
)
def test_sums_as_other_programs_write_them(tmp_path: Path, write: Callable[[str], bytes]) -> None:
    source = put(tmp_path / "world")
    (tmp_path / "world" / "SHA256SUMS").write_bytes(write(HASH.removeprefix("sha256:")))
    wanted = archive(f"file://{source}", hash="sums")
    assert fetch(wanted, tmp_path / "folder").read_bytes() == CONTENT
    assert fetch(wanted, tmp_path / "other", [tmp_path / "world"]) == source


def test_endless_sums_are_not_read(tmp_path: Path) -> None:
    source = put(tmp_path / "world")
    with (tmp_path / "world" / "SHA256SUMS").open("wb") as file:
        file.truncate(400 << 20)
    with pytest.raises(UserError, match="no more than 1048576 are taken"):
        fetch(archive(f"file://{source}", hash="sums"), tmp_path / "folder")
    with pytest.raises(WrongFile, match="is larger than 1048576 bytes"):
        fetch(archive(hash="sums"), tmp_path / "folder", [tmp_path / "world"])


@pytest.mark.parametrize("ending", ["", ".part", ".part.version", ".sha256"])
def test_a_folder_in_the_way_is_named(tmp_path: Path, ending: str) -> None:
    source = put(tmp_path / "world")
    (tmp_path / f"data.zip{ending}").mkdir()
    with pytest.raises(WrongFile, match=r"data\.zip.*must be a file; move it away"):
        fetch(archive(f"file://{source}"), tmp_path)


def test_next_url_is_tried_and_all_failures_are_listed(tmp_path: Path) -> None:
    source = put(tmp_path / "world")
    missing = f"file://{tmp_path}/missing/data.zip"
    assert fetch(archive(missing, f"file://{source}"), tmp_path / "one").is_file()
    with pytest.raises(UserError, match=r"cannot download data\.zip") as caught:
        fetch(archive(missing, missing), tmp_path / "two")
    assert str(caught.value).count("no such file") == 2


def test_wrong_content_at_the_first_url_gives_way_to_the_second(tmp_path: Path) -> None:
    wrong, right = put(tmp_path / "wrong", b"login page"), put(tmp_path / "right")
    path = fetch(archive(f"file://{wrong}", f"file://{right}"), tmp_path / "folder")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("start", ["file://server", "file:.", "file://~", "file://."])
def test_file_urls_of_other_hosts_and_relative_ones_are_refused(
    tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(tmp_path / "world")
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="names no file of this machine; write file:// and its"):
        fetch(archive(f"{start}{source}"), tmp_path / "folder")
    local = f"file://localhost{source}"
    assert fetch(archive(local), tmp_path / "folder").read_bytes() == CONTENT


def test_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only file://, http:// and https://"):
        fetch(archive("ftp://127.0.0.1/data.zip"), tmp_path / "folder")


# ---- http ----


def test_download_from_nothing(tmp_path: Path, server: Server) -> None:
    path = fetch(archive(server.url), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.seen == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["data.zip"]


def test_part_is_resumed_by_range(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:100_001])
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT
    assert server.seen == ["bytes=100001-"]


def test_server_without_ranges_sends_everything_again(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    (tmp_path / "data.zip.part").write_bytes(b"y" * 100)
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


def test_broken_connections_are_resumed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    piece = transfer.PIECE
    server.cuts = [piece + 10] * 3  # each brings new bytes, so none counts as a failed attempt
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT
    assert server.seen == [None, *(f"bytes={n * piece}-" for n in (1, 2, 3))]


def test_complete_part_needs_no_more_bytes(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


def test_part_longer_than_the_file_is_dropped(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


def test_busy_server_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.statuses = [503, 429]
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


def test_dead_server_is_given_up(tmp_path: Path, server: Server) -> None:
    server.statuses = [500] * 99
    with pytest.raises(UserError, match="HTTP 500"):
        fetch(archive(server.url), tmp_path)
    assert len(server.seen) == transfer.ATTEMPTS


def test_missing_page_is_not_asked_twice(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match="HTTP 404"):
        fetch(archive(server.url + "x"), tmp_path)
    assert len(server.seen) == 1


def test_a_web_page_is_not_taken_for_the_file(tmp_path: Path, server: Server) -> None:
    """As file sharing sites answer when they ask for a login: its hash must not be recorded."""
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="a web page instead of the file") as error:
        fetch(archive(server.url, hash=None, manual="Fetch it by hand."), tmp_path)
    assert str(error.value).endswith("Fetch it by hand.")
    assert list(tmp_path.iterdir()) == []


def test_wrong_download_is_left_under_no_name(tmp_path: Path, server: Server) -> None:
    with pytest.raises(WrongFile, match="try again later"):
        fetch(archive(server.url, hash="md5:" + "0" * 32), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_digest_of_an_unhashed_download_is_recorded(tmp_path: Path, server: Server) -> None:
    fetch(archive(server.url, hash=None), tmp_path)
    (tmp_path / "data.zip").write_bytes(b"changed")
    with pytest.raises(WrongFile, match="not the file it should be"):
        fetch(archive(server.url, hash=None), tmp_path)


@pytest.mark.parametrize("length", ["abc", "9" * 5000, "-1", "1, 2"])
def test_a_length_that_is_no_number(tmp_path: Path, server: Server, length: str) -> None:
    server.said_length = length
    with pytest.raises(UserError, match="cannot download"):
        fetch(archive(server.url), tmp_path)


@pytest.mark.parametrize(
    "url", ["http://[bad/x", "file:///etc/hostname", "http://127.0.0.1:99999/x"]
)
def test_addresses_that_lead_nowhere_are_asked_once(
    tmp_path: Path, server: Server, url: str
) -> None:
    server.location, server.redirects = url, 1
    for first in (server.url, url.replace("/etc", "/none")):
        with pytest.raises(UserError, match="cannot download") as caught:
            fetch(archive(first), tmp_path)
        assert not isinstance(caught.value, PassingError)
    assert server.seen == [None]


def test_no_more_is_taken_than_was_said(tmp_path: Path, server: Server) -> None:
    server.chunks, server.said_length = (CONTENT,) * 3, str(len(CONTENT))
    with pytest.raises(UserError, match="sends more than 300000 bytes"):
        fetch(archive(server.url), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- files of no known hash ----


@pytest.mark.parametrize("kept", [b"\xff\xfe", b"a\nb", b'"\xc4\x80"', b'"1' * 1000])
def test_a_damaged_version_of_a_part_is_none(tmp_path: Path, server: Server, kept: bytes) -> None:
    (tmp_path / "data.zip.part").write_bytes(b"of an older file")
    (tmp_path / "data.zip.part.version").write_bytes(kept)
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == CONTENT
    assert server.seen == [None]


def test_chunks_of_no_stated_length_need_a_hash(tmp_path: Path, server: Server) -> None:
    server.length, server.chunks = False, (CONTENT[:10], CONTENT[10:])
    with pytest.raises(UserError, match="does not say how long the file is, and no hash"):
        fetch(archive(server.url, hash=None), tmp_path)
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


NEWER = CONTENT[::-1] + b"newer"


def test_a_part_of_no_known_version_is_not_gone_on_with(tmp_path: Path, server: Server) -> None:
    server.tag = '"2"'
    (tmp_path / "data.zip.part").write_bytes(b"of an older file" * 1000)
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == CONTENT
    assert server.seen == [None]


@pytest.mark.parametrize("believes", [True, False])
def test_a_part_and_a_newer_file_are_not_joined(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, believes: bool
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.tag, server.cuts = '"1"', [transfer.PIECE, 0]
    with pytest.raises(UserError, match="cannot download"):
        fetch(archive(server.url, hash=None), tmp_path)
    assert (tmp_path / "data.zip.part").stat().st_size == transfer.PIECE
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    server.tag, server.content, server.believes, server.cuts = '"2"', NEWER, believes, []
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == NEWER
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.zip", "data.zip.sha256"]


def begun(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download of CONTENT that broke off behind its first piece."""
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.tag, server.cuts = '"1"', [transfer.PIECE, 0]
    with pytest.raises(UserError, match="cannot download"):
        fetch(archive(server.url, hash=None), folder)
    monkeypatch.undo()
    server.cuts = []


def test_a_rest_that_does_not_say_what_it_is_of_is_not_joined(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, server, monkeypatch)
    server.tag, server.content, server.believes, server.tells = '"2"', NEWER, False, False
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == NEWER


def test_a_part_as_long_as_a_newer_file_is_not_the_whole(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, server, monkeypatch)
    server.tag, server.content, server.believes = '"2"', NEWER[: transfer.PIECE], False
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == NEWER[: transfer.PIECE]


def test_a_whole_part_of_no_known_hash_needs_no_more_bytes(tmp_path: Path, server: Server) -> None:
    server.tag, server.believes = '"1"', False
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    (tmp_path / "data.zip.part.version").write_text(f'"1"\n{len(CONTENT)}')
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == CONTENT
    assert server.seen == [f"bytes={len(CONTENT)}-"]


def test_a_server_that_never_says_its_version_again_is_given_up(
    tmp_path: Path, server: Server
) -> None:
    server.tag, server.tells, server.cuts = '"1"', False, [transfer.PIECE + 10] * 99
    with pytest.raises(UserError, match="another one than the part that was here"):
        fetch(archive(server.url, hash=None), tmp_path)
    assert len(server.seen) < 4 * transfer.ATTEMPTS


def test_an_empty_file_is_none(tmp_path: Path, server: Server) -> None:
    server.content = b""
    with pytest.raises(UserError, match="the file is empty"):
        fetch(archive(server.url, hash=None), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_same_version_is_gone_on_with(tmp_path: Path, server: Server) -> None:
    server.tag, server.cuts = '"1"', [transfer.PIECE]
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == CONTENT
    assert server.seen == [None, f"bytes={transfer.PIECE}-"]


def test_a_short_answer_to_a_range_is_not_the_rest(tmp_path: Path, server: Server) -> None:
    server.tag, server.cuts, server.short = '"1"', [transfer.PIECE], 100_000
    assert fetch(archive(server.url, hash=None), tmp_path).read_bytes() == CONTENT
    assert len(server.seen) == 4


def test_content_of_no_stated_length_needs_a_hash(tmp_path: Path, server: Server) -> None:
    server.length = False
    with pytest.raises(UserError, match="does not say how long the file is, and no hash"):
        fetch(archive(server.url, hash=None), tmp_path)
    assert fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


def test_redirects_are_followed_but_not_for_ever(tmp_path: Path, server: Server) -> None:
    server.redirects = 3
    assert fetch(archive(server.url), tmp_path / "a").read_bytes() == CONTENT
    server.redirects = 99
    with pytest.raises(UserError, match="more than 10 redirects"):
        fetch(archive(server.url), tmp_path / "b")


def test_https_does_not_lead_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **_: object) -> requests.Response:
        response = requests.Response()
        response.raw = io.BytesIO()
        target = requests.Request("GET", "http://example.org/x?token=1").prepare()
        response._next = target  # as `next` returns it
        return response

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(UserError, match=r"redirects from https to http://example\.org/x: refused"):
        fetch(archive("https://example.org/data.zip"), tmp_path)


# ---- what is recorded at the first use ----


@pytest.mark.parametrize(
    ("published", "said"), [(None, "no hash is published"), (HASH[:15], "only 32 bits of its hash")]
)
def test_the_first_use_is_said_recorded_and_held_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], published: str | None, said: str
) -> None:
    put(tmp_path)
    fetch(archive(hash=published), tmp_path)
    first = capsys.readouterr().out
    assert said in first
    assert f"held to {HASH}" in first
    fetch(archive(hash=published), tmp_path)
    assert capsys.readouterr().out == ""
    record = tmp_path / "data.zip.sha256"
    record.write_text("0" * 64 + "  data.zip\n")
    with pytest.raises(WrongFile, match="not the file it should be") as caught:
        fetch(archive(hash=published), tmp_path)
    assert f"delete {record}" in str(caught.value)
    record.unlink()
    fetch(archive(hash=published), tmp_path)
    assert "no earlier use is recorded" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "6", "x" * 64, HASH, "0" * 63])
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    put(tmp_path)
    (tmp_path / "data.zip.sha256").write_text(content)
    with pytest.raises(WrongFile, match="must begin with the 64 hex digits"):
        fetch(archive(hash=None), tmp_path)
