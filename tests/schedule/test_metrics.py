from __future__ import annotations

import stat
from pathlib import Path

import pytest

from zitcache.schedule.metrics import Metric, exposition, write_metrics


def test_the_text_is_what_prometheus_reads() -> None:
    text = exposition(
        [
            Metric("last_backup_age_seconds", "Age of the last good backup.", 12.5, {"cache": "/a"}),
            Metric("stored_bytes", "Bytes in the repository.", 14_100_000_000),
            Metric("last_backup_age_seconds", "Age of the last good backup.", 7, {"cache": '/b "x"\n\\'}),
        ]
    )
    assert text == (
        "# HELP zitcache_last_backup_age_seconds Age of the last good backup.\n"
        "# TYPE zitcache_last_backup_age_seconds gauge\n"
        'zitcache_last_backup_age_seconds{cache="/a"} 12.5\n'
        'zitcache_last_backup_age_seconds{cache="/b \\"x\\"\\n\\\\"} 7\n'
        "# HELP zitcache_stored_bytes Bytes in the repository.\n"
        "# TYPE zitcache_stored_bytes gauge\n"
        "zitcache_stored_bytes 14100000000\n"
    )


def test_the_reference_parser_understands_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    name = "/models/\udcff"  # a path that is not UTF-8
    text = exposition([Metric("x_bytes", "A \\ B\nC", 1, {"path": name})])
    (family,) = parser.text_string_to_metric_families(text)
    assert family.samples[0].value == 1.0


def test_the_file_appears_whole_and_can_be_read_by_the_exporter(tmp_path: Path) -> None:
    path = tmp_path / "zitcache.prom"
    path.write_text("old")
    write_metrics(path, [Metric("x_bytes", "X.", 1)])
    assert path.read_text().endswith("zitcache_x_bytes 1\n")
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444
    assert [entry.name for entry in tmp_path.iterdir()] == ["zitcache.prom"]
