"""Every command with its one line of help, so that ``zitcache --help`` imports none of them.

The module of a command has its name: ``zitcache.cli.backup`` holds the function ``backup``.
"""

from __future__ import annotations

GROUPS: dict[str, dict[str, str]] = {
    "Start here": {
        "doctor": "See what a reset would take, and what to do about it.",
        "migrate": "Move the cache to a data disk; the old path keeps working.",
    },
    "Backup": {
        "init": "Create a repository on a data disk.",
        "backup": "Put a snapshot of the model cache into a repository.",
        "snapshots": "List the snapshots of a repository.",
        "diff": "Show what changed between two snapshots.",
        "restore": "Bring a snapshot back, byte for byte.",
        "copy": "Copy snapshots from one repository to another.",
        "check": "Check that a repository is sound.",
        "kit": "Put what a bare machine needs on the data disk; prove it runs.",
    },
    "Upkeep": {
        "forget": "Take old snapshots out of the list, by policy or by id.",
        "prune": "Free the space of what no snapshot needs.",
        "undelete": "Bring forgotten snapshots back.",
        "tag": "Pin snapshots, and put tags on them.",
        "repair": "Mend a repository: index, broken packs, lost blobs.",
    },
    "Cache": {
        "models": "List the models in the cache.",
        "checksum": "Fingerprint every file of the cache.",
        "verify": "Find damaged files in the cache, and repair them.",
        "env": "Show and set the variables that name the cache.",
        "generate": "Draw pictures with a model of the cache.",
        "clean": "Find leftovers that only take up space; remove them on request.",
    },
    "Nights": {
        "schedule": "Make nights come by themselves, and see whether they do.",
        "night": "Run what keeps the cache safe: backup, check, drill, report.",
        "status": "Show what is protected, and how old that is.",
        "report": "Write one HTML page about everything.",
        "history": "List the runs that are remembered.",
        "log": "Show the log of one run.",
        "config": "Show, check or write the configuration.",
    },
    "Practice": {
        "sample": "Make a small real model cache to try things on.",
        "drill": "Rehearse the loss: backup, wipe, restore, verify, timed.",
    },
}

COMMANDS: dict[str, str] = {name: line for group in GROUPS.values() for name, line in group.items()}
