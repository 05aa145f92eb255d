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
    "https://h/x?a='S3CRET', next": "https://h/x, next",
    'https://h/x?a="S3C RET"&b=S3CRET next': "https://h/x next",
    "https://h/x?a=<S3CRET>&b=S3CRET next": "https://h/x next",
    "https://h/it's/x?S3CRET": "https://h/it's/x",
    "https://u:S3C RET@h/x is gone": "https://h/x is gone",
    "https://h/x;jsessionid=S3CRET is gone": "https://h/x is gone",
    "https://h/x&sig=S3CRET": "https://h/x",
    "file://u:S3CRET@h/x is no file": "file://h/x is no file",
    "no scheme: //u:S3CRET@h/x": "no scheme: //h/x",
    "https:/u:S3CRET@h/x": "https:/h/x",
    # nothing is lost of what holds no secret
    "http://127.0.0.1:5000/#/experiments": "http://127.0.0.1:5000/",
    "/data//a:b/c@d": "/data//a:b/c@d",
    "sqlite:////tmp/a#b@c:d/e?f.db": "sqlite:////tmp/a#b@c:d/e?f.db",
    "file:///data/100%/a#b?.zip is missing": "file:///data/100%/a#b?.zip is missing",
    "http://h:80/x refused; ask a@b": "http://h:80/x refused; ask a@b",
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
        (["--set", "m.contrastive.key_bn=sync"], "--set m.contrastive.key_bn=sync"),
        (["--token", "S3CRET", "next"], "--token *** next"),
        (["--password=S3CRET=", "--seed=1"], "--password=*** --seed=1"),
        (["x.args={a: 1, hf_token: S3CRET it, b: 2}"], "x.args={a: 1, hf_token: ***"),
        (['a={password: "a,S3CRET"}'], "a={password: ***"),
        (["a={password: 'a}S3CRET'}"], "a={password: ***"),
        (["a={token: [x, S3CRET]}"], "a={token: ***"),
        (["--token", "", "S3CRET", "next"], "--token *** *** next"),
        (["-H", "Authorization: Basic a, S3CRET"], "-H Authorization: ***"),
        (["Authorization:", "Basic", "S3CRET", "next"], "Authorization: *** *** next"),
        (["--no-auth", "positional"], "--no-auth positional"),
        (["--uri=http://u:S3CRET@h/p?q=S3CRET"], "--uri=http://h/p"),
        (["d.urls=[http://h/x?token=S3CRET]"], "d.urls=[http://h/x]"),
    ],
)
def test_values_of_keys_that_look_like_secrets_are_hidden(words, shown):
    assert " ".join(without_secrets(words)) == shown


@pytest.mark.parametrize(
    "key", ["pass", "key", "signature", "sig", "sas", "cookie", "session", "dsn", "bearer"]
)
def test_keys_that_hold_secrets(key):
    words = [
        f"--set=a.{key}=S3CRET",
        f"{{{key}: S3CRET}}",
        f"--{key}",
        "S3CRET",
        f"X-{key}: S3CRET",
    ]
    assert "S3CRET" not in " ".join(without_secrets(words))
