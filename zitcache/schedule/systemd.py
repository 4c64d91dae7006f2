"""systemd units and timers: oneshot services that may read the cache and write the repository, no more.

Sources: ``systemd.exec(5)``, ``systemd.timer(5)``, ``systemd.unit(5)``.
"""

from __future__ import annotations

from zitcache.errors import UsageError
from zitcache.schedule.jobs import Installation, Job, command_line, night_jobs

SYSTEM_FOLDER = "/etc/systemd/system"
_HEADER = "# Written by `zitcache schedule install`; remove it with `zitcache schedule remove`.\n"
_DRAWS = """\
# Drawing needs the GPU's devices, and its libraries make code at run time.
PrivateDevices=no
MemoryDenyWriteExecute=no
"""
_DRAWS_NOT = """\
PrivateDevices=yes
DevicePolicy=closed
MemoryDenyWriteExecute=yes
"""


def unit_files(installation: Installation, *, system: bool = True) -> dict[str, str]:
    """Name and text of every service and timer. ``system``: for the system's manager, else for a user's."""
    files: dict[str, str] = {}
    for job in night_jobs(installation):
        files[f"{job.unit}.service"] = service(installation, job, system=system)
        files[f"{job.unit}.timer"] = timer(job)
    return files


def service(installation: Installation, job: Job, *, system: bool = True) -> str:
    """The service of one job."""
    unit = [f"Description={_text(job.description)}"]
    after = [f"zitcache-{job.after}.service"] if job.after else []
    # Snapshots may lie in a bucket, and whoever is told in the morning is told over the network.
    unit += ["Wants=network-online.target", f"After={' '.join(['network-online.target', *after])}"]
    if installation.mounts:
        unit.append(f"RequiresMountsFor={' '.join(_word(place) for place in installation.mounts)}")
    words = " ".join(_argument(word) for word in command_line(installation, job))
    lines = [
        "[Unit]",
        *unit,
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={words}",
        f"Environment={_word('HOME=' + installation.home)}",
        *(f"Environment={_word(f'{name}={value}')}" for name, value in installation.environment),
        *(
            ["Environment=ZITCACHE_METADATA_CACHE=/var/cache/zitcache"]
            if installation.is_remote and system
            else []
        ),
        "# Credentials of a bucket, if there is one: AWS_ACCESS_KEY_ID=… (mode 0600)",
        "EnvironmentFile=-/etc/zitcache/environment",
        "# An interrupted night goes on where it stopped.",
        "TimeoutStartSec=24h",
        "TimeoutStopSec=15s",
        "Nice=19",
        "IOSchedulingClass=best-effort",
        "IOSchedulingPriority=7",
    ]
    lines += _protection(installation, job) if system else ["NoNewPrivileges=yes"]
    return _HEADER + "\n".join(lines) + "\n"


def timer(job: Job) -> str:
    """The timer of one job; a night that was slept through is made up for."""
    lines = [
        "[Unit]",
        f"Description={_text(job.description)}",
        "",
        "[Timer]",
        f"X-Cron={job.at.text}",
        *(f"OnCalendar={line}" for line in job.at.on_calendar()),
        "# A machine that was off at that time does it when it is on again.",
        "Persistent=true",
        "RandomizedDelaySec=15min",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return _HEADER + "\n".join(lines) + "\n"


def _protection(installation: Installation, job: Job) -> list[str]:
    writable = " ".join(_word("-" + place) for place in installation.read_write)
    return [
        f"User={installation.user}",
        "",
        "# Everything is read-only but these.",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        *([f"ReadWritePaths={writable}"] if writable else []),
        "StateDirectory=zitcache",
        "StateDirectoryMode=0700",
        "CacheDirectory=zitcache",
        "CacheDirectoryMode=0700",
        "PrivateTmp=yes",
        "UMask=0077",
        "NoNewPrivileges=yes",
        "# Files of other users must be readable, and modes of restored ones be set.",
        "CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_CHOWN",
        "AmbientCapabilities=",
        *(_DRAWS if job.needs_gpu else _DRAWS_NOT).rstrip("\n").splitlines(),
        "ProtectClock=yes" if not job.needs_gpu else "ProtectClock=no",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectProc=invisible" if not job.needs_gpu else "ProtectProc=default",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallErrorNumber=EPERM",
    ]


def _text(value: str) -> str:
    return value.replace("%", "%%").replace("\n", " ")


def _argument(value: str) -> str:
    """One word of a command line, in which systemd also replaces variables. Raises as :func:`_word`."""
    return _word(value).replace("$", "$$")


def _word(value: str) -> str:
    """One word of a list, as systemd reads it. Raises ``UsageError`` for what it cannot.

    Source: ``systemd.syntax(7)``, ``systemd.service(5)``.
    """
    if any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in value):
        raise UsageError(
            f"{value!r} cannot be written into a systemd unit: it holds a control character.",
            hint="Use another backend: zitcache schedule install --backend daemon",
        )
    escaped = value.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    plain = escaped and all(character.isalnum() or character in "%$/._-=:,@+" for character in escaped)
    return escaped if plain else f'"{escaped}"'
