"""URLs that may hold a secret."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"

# Parts of a query that are secrets, as database drivers name them.
_SECRET = re.compile(r"([?&](?:password|passwd|sslpassword|passfile)=)([^&#]*)", re.IGNORECASE)


def without_password(url: str) -> str:
    """The URL without the secrets that it may hold."""
    url = _SECRET.sub(rf"\1{HIDDEN}", url)
    head, at, tail = url.rpartition("@")
    scheme, separator, user = head.partition("://")
    if not at or not separator or ":" not in user:
        return url
    return f"{scheme}://{user.partition(':')[0]}:{HIDDEN}@{tail}"


def redacted(text: str, url: str | None) -> str:
    """`text` without the secrets of `url`, however they are written in it."""
    for secret in secrets(url or ""):
        for written in (secret, unquote(secret)):
            text = text.replace(written, HIDDEN)
    return text


def secrets(url: str) -> list[str]:
    """The secrets in a URL, as they are written there."""
    found = [value for _, value in _SECRET.findall(url)]
    head, _, _ = url.rpartition("@")
    _, separator, user = head.partition("://")
    if separator and ":" in user:
        found.append(user.partition(":")[2])
    return [secret for secret in found if secret]


def torn(url: str) -> bool:
    """Whether a secret holds characters that end it early, so that its rest would be taken for a host or a path."""
    head, _, _ = url.partition("?")[0].rpartition("@")
    return any(mark in head.partition("://")[2] for mark in "@/")
