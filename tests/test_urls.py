import pytest

from bcgraph.urls import redacted, shown, understood, without_password


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("postgresql://host/base", "postgresql://host/base"),
        ("postgresql://me@host:5432/base", "postgresql://me@host:5432/base"),
        ("postgresql://me:s3c:r@t@host:5432/base", "postgresql://me:***@host:5432/base"),
        ("postgresql://me:s3c/ret@host/base?sslmode=require", "postgresql://me:***@host/base?sslmode=require"),
        ("mysql+pymysql://host/base?user=me&password=s3cret&x=1", "mysql+pymysql://host/base?user=me&password=***&x=1"),
        ("--storage=postgresql://me:s3cret@host/base", "--storage=postgresql://me:***@host/base"),
        ("found", "found"),
        ("a@b:c", "a@b:c"),
        ("postgresql://me@host/base#s3cret", "postgresql://me@host/base#***"),
        ("redis://:p#w@host/0#s3cret", "redis://:***@host/0#***"),
        ("sqlite:///a#b.db", "sqlite:///a#b.db"),
    ],
)
def test_secrets_are_not_shown(url: str, safe: str) -> None:
    assert without_password(url) == safe


def test_a_text_is_freed_of_them() -> None:
    url = "postgresql://me:p%40ss@host/base?sslpassword=k%20ey"
    text = "no entry for me with p@ss or p%40ss, k ey and k%20ey"
    assert redacted(text, url) == "no entry for me with *** or ***, *** and ***"
    assert redacted(text, None) == text
    assert redacted("no base named base#s3cret", "redis://me:p#w@host/base#s3cret") == "no base named base#***"
    assert redacted("no file a#b.db", "sqlite:///a#b.db") == "no file a#b.db"


@pytest.mark.parametrize(
    "url",
    [
        "me:s3cret@host/base",
        "postgresql//me:s3cret@host/base",
        "postgresql:/me:s3cret@host/base",
        "postgresql:///me:s3cret@host/base",
        "postgresql//:me:s3cret@host/base",
        "postgresql ://me:s3cret@host/base",
        "://me:s3cret@host/base",
        "postgresql://me:s3@cret@host/base",
        "postgresql://me:s3/cret@host/base",
        "postgresql://me:s3cret",
        "postgresql://me@s3cret@host/base",
        "postgresql://host/me:s3cret@base",
        "s3cret",
        "",
    ],
)
def test_nothing_is_shown_of_what_is_not_understood(url: str) -> None:
    assert not understood(url)
    assert shown(url) == "***"


def test_what_is_understood() -> None:
    for url, text in {
        "postgresql://me:p%40ss@host/base?user=a@b": "postgresql://me:***@b",
        "sqlite:////tmp/a.db": "sqlite:////tmp/a.db",
        "sqlite:///C:/data/study.db": "sqlite:///C:/data/study.db",
        "postgresql://me:s3cret@[::1]:5432/base": "postgresql://me:***@[::1]:5432/base",
        "postgresql+psycopg://me:s3cret@/base?host=/var/run": "postgresql+psycopg://me:***@/base?host=/var/run",
    }.items():
        assert understood(url)
        assert shown(url) == text
