"""numpy, imported without its pool of BLAS threads.

zitcache uses no linear algebra; OpenBLAS would start a thread for each core, which costs start-up time and
cycles of the cores that the pipelines keep busy. The variable is set for the import alone: what runs later
in this process, or below it, finds its own settings untouched.
"""

from __future__ import annotations

import os

_VARIABLE = "OPENBLAS_NUM_THREADS"

_before = os.environ.get(_VARIABLE)
os.environ[_VARIABLE] = "1"
try:
    import numpy as np
finally:
    if _before is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = _before

__all__ = ["np"]
