"""URLs that may hold a secret."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"

_FILE = "sqlite"
"""The scheme of a storage in a file."""

# Parts of a query that are secrets, as database drivers name them.
_SECRET = re.compile(r"([?&](?:password|passwd|sslpassword|passfile)=)([^&#]*)", re.IGNORECASE)


# A scheme, then user and password, a host with a port in digits, a path, and a query. No part of a password fits in the
# place of another part.
_FORM = re.compile(
    r"[a-z][a-z0-9]*(\+[a-z0-9_]+)?://([^:@/\s]*(:[^@/\s]*)?@)?([^:@/?#\s]*|\[[0-9a-fA-F:.]+\])(:[0-9]+)?(/[^@?]*)?(\?.*)?"
)


def understood(url: str) -> bool:
    """Whether it is clear which part of the URL is a secret: only then may the rest be shown."""
    return _FORM.fullmatch(url) is not None


def shown(url: str) -> str:
    """The URL for a message: without its secrets, and nothing of it where it is not understood."""
    return without_password(url) if understood(url) else HIDDEN


def without_password(url: str) -> str:
    """The URL without the secrets that it may hold."""
    url = _SECRET.sub(rf"\1{HIDDEN}", url)
    head, at, tail = url.rpartition("@")
    scheme, separator, user = head.partition("://")
    if at and separator and ":" in user:
        url = f"{scheme}://{user.partition(':')[0]}:{HIDDEN}@{tail}"
    fragment = _fragment(url)
    return url if not fragment else url.removesuffix(fragment) + HIDDEN


def _fragment(url: str) -> str:
    """What follows `#`, which no storage reads. It is a part of the name of a file."""
    named, separator, rest = url.partition("://")
    return "" if not separator or named.endswith(_FILE) else rest.partition("#")[2]


def redacted(text: str, url: str | None) -> str:
    """`text` without the secrets of `url`, however they are written in it."""
    for secret in secrets(url or ""):
        for written in (secret, unquote(secret)):
            text = text.replace(written, HIDDEN)
    return text


def secrets(url: str) -> list[str]:
    """The secrets in a URL, as they are written there."""
    found = [value for _, value in _SECRET.findall(url)]
    head, _, tail = url.rpartition("@")
    scheme, separator, user = head.partition("://")
    if separator and ":" in user:
        found.append(user.partition(":")[2])
        url = f"{scheme}://{tail}"
    return [secret for secret in (*found, _fragment(url)) if secret]
