"""Listing a folder of the repository, with the old way of asking where the endpoint knows no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zitcache.errors import IntegrityError
from zitcache.storage.names import is_name
from zitcache.storage.protocol import ObjectInfo
from zitcache.storage.s3.errors import Kind
from zitcache.storage.s3.requests import Expected, Requests

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_UNSUPPORTED = frozenset({Kind.UNSUPPORTED})


class Lister:
    """Lists folders of one repository."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._is_old = False

    def objects(self, folder: str) -> Iterator[ObjectInfo]:
        """Every object directly in ``folder`` ("packs"). Keys that name no object are passed over."""
        base = self._requests.location.key(folder) + "/"
        for item in self.keys(base):
            entry = item["Key"][len(base) :]
            if item["Key"].startswith(base) and "/" not in entry and is_name(entry):
                yield ObjectInfo(f"{folder}/{entry}", int(item["Size"]), whole_seconds(item["LastModified"]))

    def keys(self, prefix: str, *, delimiter: str = "/", at_most: int | None = None) -> Iterator[Any]:
        """The entries of a listing (dictionaries with Key, Size and LastModified)."""
        token: str | None = None
        count = 0
        while True:
            page = self._page(prefix, delimiter, token, at_most)
            contents = page.get("Contents", [])
            for item in contents:
                yield item
                count += 1
                if at_most is not None and count >= at_most:
                    return
            if not page.get("IsTruncated"):
                return
            folders = [each["Prefix"] for each in page.get("CommonPrefixes", [])]
            last = max([contents[-1]["Key"] if contents else "", *folders])
            following = page.get("NextContinuationToken") or page.get("NextMarker")
            if not following:
                # Servers that know only the old listing answer the new question with it.
                self._is_old = True
                following = last
            if not following or following == token:
                raise IntegrityError(f"The endpoint's listing of {prefix} does not come to an end.")
            token = following

    def _page(self, prefix: str, delimiter: str, token: str | None, at_most: int | None) -> Any:
        doing = f"listing {prefix}"
        if not self._is_old:
            try:
                return self._requests.run(
                    doing,
                    lambda client: _new(client, self._parameters(prefix, delimiter, at_most), token),
                    expected=_UNSUPPORTED,
                )
            except Expected:
                self._is_old = True
        return self._requests.run(
            doing, lambda client: _old(client, self._parameters(prefix, delimiter, at_most), token)
        )

    def _parameters(self, prefix: str, delimiter: str, at_most: int | None) -> dict[str, Any]:
        parameters: dict[str, Any] = {"Bucket": self._requests.location.bucket, "Prefix": prefix}
        if delimiter:
            parameters["Delimiter"] = delimiter
        if at_most is not None:
            parameters["MaxKeys"] = at_most
        return parameters


def whole_seconds(moment: Any) -> float:
    """HEAD tells whole seconds and a listing thousandths: make them the same."""
    return float(int(moment.timestamp()))


def _new(client: S3Client, parameters: dict[str, Any], token: str | None) -> Any:
    more: dict[str, Any] = {"ContinuationToken": token} if token else {}
    return client.list_objects_v2(**parameters, **more)


def _old(client: S3Client, parameters: dict[str, Any], token: str | None) -> Any:
    more: dict[str, Any] = {"Marker": token} if token else {}
    return client.list_objects(**parameters, **more)
