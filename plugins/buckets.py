"""Artifacts in a bucket: S3, or what speaks like it, as `artifacts.url = "s3://bucket/prefix"` names it.

Keys and the endpoint come from the environment of the node (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_REGION`, `AWS_ENDPOINT_URL`).  Needs the extra `hindbrain[s3]`.
"""

import os
from pathlib import Path
from typing import Protocol


class Place(Protocol):
    """What a depot is made with, as far as this one has to know."""

    @property
    def url(self) -> str | None:
        """The setting `artifacts.url`."""
        ...


class Bucket:
    """Content under its hash, each an object of the bucket."""

    def __init__(self, place: Place) -> None:
        try:
            from obstore import store
        except ImportError:
            raise OSError(
                "artifacts in a bucket need the extra hindbrain[s3]: pip install hindbrain[s3]"
            ) from None
        url = place.url or ""
        if not url.startswith("s3://"):
            raise OSError(f"artifacts.url is {url!r}: write s3://bucket/prefix")
        # Plain HTTP only where somebody has named such an endpoint.
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        self._store = store.S3Store.from_url(url, client_options={"allow_http": plain})

    def put(self, sha256: str, source: Path) -> None:
        """Keep the content of a file; what is there already stays."""
        import obstore

        if self.size(sha256) != source.stat().st_size:
            obstore.put(self._store, sha256, source)

    def size(self, sha256: str) -> int | None:
        """How many bytes of it there are; None when it is not there."""
        import obstore

        try:
            return obstore.head(self._store, sha256)["size"]
        except FileNotFoundError:
            return None

    def fetch(self, sha256: str, target: Path) -> None:
        """Write the content to a new file; `FileNotFoundError` when it is not there."""
        import obstore

        found = obstore.get(self._store, sha256)
        with open(target, "xb", opener=_private) as file:
            file.writelines(found.stream())

    def remove(self, sha256: str) -> None:
        """Keep it no more."""
        import obstore

        obstore.delete(self._store, sha256)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
