"""Run by the tests in a process of its own: writes to a repository, and says how that went.

``python scenario.py DIRECTORY VERB [RLIMIT_FSIZE]``, VERB one of store, create, writer. It writes 3 MiB as
``packs/new`` and prints "ok", or the code of the error.
"""

from __future__ import annotations

import os
import resource
import sys

from zitcache.errors import ZitcacheError
from zitcache.storage.local import LocalStorage

DATA = b"new!" * (3 << 18)


def main() -> None:
    directory, verb = sys.argv[1:3]
    if len(sys.argv) > 3:
        limit = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    storage = LocalStorage(directory)
    os.write(1, b"begin\n")  # one call of write(2), so that a test can count
    try:
        if verb == "store":
            storage.store("packs/new", DATA)
        elif verb == "create":
            storage.create("packs/new", DATA)
        else:
            with storage.writer() as writer:
                for start in range(0, len(DATA), 1 << 20):
                    writer.write(DATA[start : start + (1 << 20)])
                writer.commit("packs/new")
    except ZitcacheError as error:
        print(error.code)
    else:
        print("ok")


if __name__ == "__main__":
    main()
