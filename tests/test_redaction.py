"""What is shown of addresses and commands that hold secrets."""

import pytest

from cp2.errors import UserError, WrongFile
from cp2.record.attempts import last_line
from cp2.redaction import plain_urls, without_secrets

URLS = {
    "http://alice:S3CRET@h:9/x.zip?sig=S3CRET": "http://h:9/x.zip",
    "https://h/x.zip#S3CRET": "https://h/x.zip",
    "https://S3CRET@h/x?a=1&b=2, https://h/y?S3CRET; more": "https://h/x, https://h/y; more",
    "(http://h/x?S3CRET): refused": "(http://h/x): refused",
    "tracking URI 'postgresql://u:S3@/CR?E#T@db.local/mlflow' no": "tracking URI 'postgresql://db.local"
    "/mlflow' no",
    "mysql+pymysql://u:S3CRET@db/m?ssl=S3CRET\nnext": "mysql+pymysql://db/m\nnext",
    "retries exceeded with url: /x.zip?sig=S3CRET (Caused by": "retries exceeded with url: /x.zip "
    "(Caused by",
    # nothing is lost of what holds no secret
    "http://127.0.0.1:5000/#/experiments": "http://127.0.0.1:5000/",
    "sqlite:////tmp/a#b@c:d/e?f.db": "sqlite:////tmp/a#b@c:d/e?f.db",
    "file:///data/100%/a#b?.zip is missing": "file:///data/100%/a#b?.zip is missing",
    "https://a.example/b.tar: 404": "https://a.example/b.tar: 404",
    "which? here: a/b?c@d # e": "which? here: a/b?c@d # e",
}


@pytest.mark.parametrize("text", URLS)
def test_a_url_is_shown_as_scheme_host_and_path(text):
    assert plain_urls(text) == URLS[text]
    assert str(WrongFile(text)) == URLS[text]
    assert last_line(ValueError(text)) == "ValueError: " + URLS[text].splitlines()[-1]


def test_a_user_error_keeps_what_it_was_given():
    assert UserError("a\nb").args == ("a\nb",)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["cp2", "plan", "--set", "a.b=1"], "cp2 plan --set a.b=1"),
        (["--set", "x.api_key=S3CRET and more"], "--set x.api_key=***"),
        (["--token", "S3CRET", "next"], "--token *** next"),
        (["--password=S3CRET=", "--seed=1"], "--password=*** --seed=1"),
        (["x.args={a: 1, hf_token: S3CRET it, b: 2}"], "x.args={a: 1, hf_token: ***, b: 2}"),
        (["--uri=http://u:S3CRET@h/p?q=S3CRET"], "--uri=http://h/p"),
        (["d.urls=[http://h/x?token=S3CRET]"], "d.urls=[http://h/x]"),
    ],
)
def test_values_of_keys_that_look_like_secrets_are_hidden(words, shown):
    assert " ".join(without_secrets(words)) == shown
