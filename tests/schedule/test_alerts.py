"""The alert rules speak of numbers that a night really writes, with the limits of ``zitcache status``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.night_reports import overview
from zitcache.schedule.history import RunRecord, StepRecord
from zitcache.schedule.metrics import PREFIX, exposition
from zitcache.schedule.sections import StatusConfig
from zitcache.tasks.night.steps import STEPS
from zitcache.tasks.night.telling import metrics_of

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
_METRIC = re.compile(rf"\b({PREFIX}[a-z_]+)(?:\{{([^}}]*)\}})?")


def rules() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    text = (FOLDER / "zitcache-alerts.yaml").read_text()
    (group,) = yaml.safe_load(text)["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def written() -> dict[str, list[dict[str, str]]]:
    """Every metric of a night in which everything was done, with the labels that it has."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    record = RunRecord(
        command="night",
        host="box",
        program="zitcache",
        started=1.0,
        ended=2.0,
        exit_code=0,
        steps=[StepRecord(name=name, exit_code=0, seconds=1.0) for name in STEPS],
    )
    text = exposition(metrics_of(record, overview()))
    return {
        family.name: [sample.labels for sample in family.samples]
        for family in parser.text_string_to_metric_families(text)
    }


def test_every_number_in_a_rule_is_one_that_a_night_writes() -> None:
    known = written()
    seen = 0
    for rule in rules():
        for name, labels in _METRIC.findall(rule["expr"]):
            seen += 1
            assert name in known, f"{rule['alert']}: there is no {name}"
            for label, operator, value in re.findall(r'([a-z]+)(=~|=)"([^"]*)"', labels):
                values = [sample[label] for sample in known[name]]
                wanted = value.split("|") if operator == "=~" else [value]
                assert set(wanted) <= set(values), f"{rule['alert']}: {label} is never {value}"
    assert seen >= 12


@pytest.mark.parametrize("what", ["backup", "check", "drill", "proof"])
def test_the_limits_are_those_of_status(what: str) -> None:
    limits = StatusConfig()
    seconds = limits.backup_hours * 3600 if what == "backup" else getattr(limits, f"{what}_days") * 86_400
    (rule,) = [rule for rule in rules() if rule["alert"] == f"Zitcache{what.capitalize()}TooOld"]
    count, unit = re.findall(r"> (\d+) \* (\d+)", rule["expr"])[0]
    assert int(count) * int(unit) == seconds


def test_every_rule_says_what_to_type() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert "zitcache " in rule["annotations"]["description"], rule["alert"]
        assert "instance" in rule["annotations"]["summary"], rule["alert"]


@pytest.mark.parametrize(
    "words", [("check", "rules", "zitcache-alerts.yaml"), ("test", "rules", "zitcache-alerts.test.yaml")]
)
def test_prometheus_accepts_the_rules_and_means_what_we_mean(words: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (package prometheus)")
    done = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
