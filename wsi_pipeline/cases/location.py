"""Where a slide lies: a path of this machine, or a URL that fsspec reads."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from upath import UPath

from wsi_pipeline.errors import UsageError

Location: TypeAlias = Path | UPath


def located(text: str, root: Location | None = None) -> Location:
    """What `text` names: a URL, or a path below `root`.

    Raises:
        UsageError: a URL that carries credentials, or that no installed package reads.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return (root or Path()) / text
    if any(sign in rest for sign in "?#@"):
        # a report, a log and a fingerprint would hold them
        raise UsageError(
            f"{scheme} URL",
            "has a query, a fragment or a user in it, where credentials may stand",
            "give the plain URL, and credentials to fsspec (its configuration files or environment variables)",
        )
    try:
        url = UPath(text)
        assert url.fs
    except (ImportError, ValueError) as error:
        raise UsageError(text, f"cannot be read ({error})", "pip install the package that serves this scheme") from None
    return url
