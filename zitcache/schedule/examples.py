"""Write ``systemd/`` and ``crontab.example`` of the project: ``python -m zitcache.schedule.examples``."""

from __future__ import annotations

from pathlib import Path

from zitcache.schedule.cron import system_file
from zitcache.schedule.jobs import example
from zitcache.schedule.systemd import unit_files


def example_files() -> dict[str, str]:
    """Path in the project and text of every example."""
    files = {f"systemd/{name}": text for name, text in unit_files(example()).items()}
    files["crontab.example"] = system_file(example())
    return files


def write_examples(project: Path) -> None:
    """Write them all below ``project``. Raises ``OSError``."""
    for name, text in example_files().items():
        path = project / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write_examples(Path.cwd())
