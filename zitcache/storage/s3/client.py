"""The boto3 client of one endpoint: how it is set up, and how it is set up anew when keys were renewed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zitcache import __version__
from zitcache.errors import UsageError
from zitcache.storage.s3.addressing import (
    FALLBACK_REGION,
    is_local,
    other_style,
    preferred_style,
    region_of,
)
from zitcache.storage.s3.location import S3Location, checked_endpoint

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECT_SECONDS = 10
READ_SECONDS = 60
"""For every single read and write of a socket, not for a whole object."""


class Connection:
    """Makes the client when it is first needed. Every method may be called from any thread.

    Keys come from boto3's chain: environment, profile, web identity, container and machine roles. Here they
    are remembered, in memory, for one purpose: to keep them out of messages.
    """

    def __init__(self, location: S3Location, pool_size: int) -> None:
        self._location = location
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._session: Any = None
        self._style = location.addressing
        self._region = location.region
        self._extra = threading.local()
        self._secrets: set[str] = set()
        self._signs_bodies = False
        self.endpoint_url: str | None = location.endpoint_url
        self.generation = 0
        """Counts the clients, so that of many threads whose keys expired one makes a new client."""

    def client(self) -> S3Client:
        """The client. Raises ``UsageError`` and what botocore raises for profiles and settings."""
        with self._lock:
            if self._client is None:
                self._client = self._build()
            return self._client

    @property
    def region(self) -> str | None:
        """The region that requests are signed for."""
        return self._region

    def renew(self, generation: int) -> None:
        """Read the keys again where they come from, unless somebody did so since ``generation``."""
        with self._lock:
            if generation == self.generation:
                self._drop()

    def move(self, region: str) -> bool:
        """Sign for another region from now on; False if that is the one already."""
        with self._lock:
            if region == self._region:
                return False
            self._region = region
            self._drop(keep_session=True)
            return True

    def readdress(self, style: str) -> bool:
        """Put the bucket's name elsewhere than ``style`` does; False if there is no other place for it."""
        with self._lock:
            if self._location.addressing is not None:
                return False
            if style != self._style:
                return True  # somebody was faster
            other = other_style(self.endpoint_url, style)
            if other is None:
                return False
            self._style = other
            self._drop(keep_session=True)
            return True

    def sign_bodies(self, generation: int) -> bool:
        """Make bodies a part of the signature from now on; False if they are one already."""
        with self._lock:
            if self._signs_bodies:
                return generation != self.generation
            self._signs_bodies = True
            self._drop(keep_session=True)
            return True

    @property
    def style(self) -> str:
        """Where the bucket's name goes: "auto", "path" or "virtual"."""
        return self._style or preferred_style(self.endpoint_url)

    def set_headers(self, headers: dict[str, str]) -> None:
        """Headers for the uploads that this thread makes next; an empty dict ends it."""
        self._extra.headers = headers

    def secrets(self) -> tuple[str, ...]:
        """What must not appear in any message, keys that were given up meanwhile included."""
        try:
            found = self._session.get_credentials().get_frozen_credentials()
        except Exception:  # no session, or a provider that fails: nothing new to hide
            return tuple(self._secrets)
        self._secrets.update(text for text in (found.secret_key, found.token) if text)
        return tuple(self._secrets)

    def key_source(self) -> str:
        """Where the keys come from, for messages: "the environment", "profile backup", …"""
        try:
            found = self._session.get_credentials()
            method = str(found.method)
            ending = str(found.access_key)[-4:]
        except Exception:
            return "no keys"
        names = {
            "env": "environment",
            "shared-credentials-file": f"profile {self._session.profile_name}",
            "config-file": f"profile {self._session.profile_name}",
            "iam-role": "machine's role",
            "container-role": "container's role",
        }
        return f"the key …{ending} from the {names.get(method, method)}"

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._drop()

    def _drop(self, *, keep_session: bool = False) -> None:
        self._client = None
        if not keep_session:
            self._session = None
        self.generation += 1

    def _build(self) -> S3Client:
        import boto3

        # Full pools and retries are handled here; a library's own words would end up between ours.
        for name in ("boto3", "botocore", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self._session is None:
            self._session = boto3.session.Session(profile_name=self._location.profile)
        if self.endpoint_url is None:
            self.endpoint_url = _endpoint_of_environment(os.environ)
        client = self._make()
        if self.endpoint_url is None and _is_custom(client):
            # It stands in the profile, which only boto3 reads.
            self.endpoint_url = checked_endpoint(client.meta.endpoint_url)
            client = self._make()
        return client

    def _make(self) -> S3Client:
        from botocore.config import Config

        endpoint = self.endpoint_url
        if endpoint is None or endpoint.startswith("https:"):
            _require_certificates(os.environ)
        if self._region is None:
            self._region = (
                (region_of(endpoint) if endpoint else None) or self._session.region_name or FALLBACK_REGION
            )
        if self._style is None and endpoint is not None:
            self._style = preferred_style(endpoint)
        config = Config(
            signature_version="s3v4",
            user_agent_extra=f"zitcache/{__version__}",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=self._pool_size,
            tcp_keepalive=True,
            # Retries are ours: they know how long to go on, and resume bodies where they broke.
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Trailers with checksums are refused, or stored inside the object, by many endpoints.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # A SHA-256 of each body costs more than the network. What is written has its own checksum, and
            # what is read is compared with its BLAKE3. Endpoints that insist get one.
            s3=_s3_settings(self.style, self._signs_bodies),
            proxies={} if endpoint and is_local(endpoint) else None,
        )
        client: S3Client = self._session.client(
            "s3", endpoint_url=endpoint, region_name=self._region, config=config
        )
        client.meta.events.register("before-call.s3.PutObject", self._add_headers)
        client.meta.events.register("before-call.s3", _keep_region)
        return client

    def _add_headers(self, params: dict[str, Any], **_: object) -> None:
        params["headers"].update(getattr(self._extra, "headers", {}))


def _endpoint_of_environment(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if environ.get(name):
            try:
                return checked_endpoint(environ[name])
            except UsageError as error:
                raise UsageError(f"{name}: {error.message}", hint=error.hint) from None
    return None


def _keep_region(params: dict[str, Any], **_: object) -> None:
    """Make botocore leave redirections to us.

    Its own way asks the bucket for its region, and that question again when it is redirected, without end.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _s3_settings(style: str, signs_bodies: bool) -> Any:
    return {"addressing_style": style, "payload_signing_enabled": signs_bodies}


def _require_certificates(environ: Mapping[str, str]) -> None:
    """A file of certificates that is not there would look like a network that fails, again and again."""
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        path = environ.get(name)
        if path:
            if not os.path.exists(path):
                raise UsageError(
                    f"{name} names the certificates to trust, but there is no {path}.",
                    hint=f"Correct it, or take it away: unset {name}",
                )
            return


def _is_custom(client: S3Client) -> bool:
    return not client.meta.endpoint_url.rstrip("/").endswith((".amazonaws.com", ".amazonaws.com.cn"))
