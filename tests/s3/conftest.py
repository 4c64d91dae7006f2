"""Everything below needs a real server."""

from __future__ import annotations

from tests.s3.fixtures import proxy, s3_keys, s3_location, s3_server

__all__ = ["proxy", "s3_keys", "s3_location", "s3_server"]
