"""``python -m zitcache``: the same program as the ``zitcache`` command."""

from __future__ import annotations

from zitcache.cli.main import main

if __name__ == "__main__":
    main()
