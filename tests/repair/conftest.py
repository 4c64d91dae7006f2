"""As for the tests of prune."""

from __future__ import annotations

from tests.prune.conftest import no_settings, one_pack_at_a_time

__all__ = ["no_settings", "one_pack_at_a_time"]
