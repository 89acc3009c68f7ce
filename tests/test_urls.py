import pytest

from bcgraph.urls import redacted, torn, without_password


@pytest.mark.parametrize(
    ("url", "shown"),
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
    ],
)
def test_secrets_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_text_is_freed_of_them() -> None:
    url = "postgresql://me:p%40ss@host/base?sslpassword=k%20ey"
    text = "no entry for me with p@ss or p%40ss, k ey and k%20ey"
    assert redacted(text, url) == "no entry for me with *** or ***, *** and ***"
    assert redacted(text, None) == text


def test_secrets_that_are_not_quoted() -> None:
    assert torn("postgresql://me:p@ss@host/base")
    assert torn("postgresql://me:p/ss@host/base")
    assert not torn("postgresql://me:p%40ss@host/base?user=a@b")
    assert not torn("sqlite:////tmp/a.db")
