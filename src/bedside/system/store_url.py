"""URLs of objects in an S3-like store, where paths are taken too."""

import re
from pathlib import Path

# A Path folds the two slashes of a URL into one.
_URL = re.compile(r"s3:/(?=[^/])(.+)")


def store_url(path: Path) -> str | None:
    """Return the URL that a path was made from; None if it is a path of this machine.

    Example:
        >>> store_url(Path("s3://study/cases.jsonl")), store_url(Path("cases.jsonl"))
        ('s3://study/cases.jsonl', None)
    """
    found = _URL.fullmatch(path.as_posix())
    return f"s3://{found[1]}" if found else None
