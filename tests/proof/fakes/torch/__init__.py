"""As much of torch as the drawing process touches."""

import json
import os

import numpy

FAKE = json.loads(os.environ.get("FAKE_GPU", "{}"))
GPUS = FAKE.get("gpus", [])
__version__ = "2.9.1+fake"
bfloat16, float32 = "torch.bfloat16", "torch.float32"


class OutOfMemoryError(RuntimeError):
    pass


class Anything:
    """A tensor that can be used for everything and is nothing."""

    def __getattr__(self, name):
        return lambda *arguments, **named: self

    def __matmul__(self, other):
        return self

    def __getitem__(self, key):
        return self


class Generator:
    def __init__(self, device):
        self.device = device

    def manual_seed(self, seed):
        self.seed = seed
        return self


def ones(*arguments, **named):
    return Anything()


def isfinite(values):
    return numpy.isfinite(values)


def get_num_threads():
    return 1


class _Namespace:
    def __init__(self, **members):
        self.__dict__.update(members)


def _index(device):
    return device if isinstance(device, int) else int(str(device).partition(":")[2] or 0)


nn = _Namespace(functional=_Namespace(conv2d=lambda *arguments: Anything()))
version = _Namespace(cuda="12.8", hip=None)
cuda = _Namespace(
    is_available=lambda: bool(GPUS),
    device_count=lambda: len(GPUS),
    mem_get_info=lambda device: (GPUS[_index(device)]["free"], GPUS[_index(device)]["total"]),
    get_device_name=lambda device: GPUS[_index(device)]["name"],
    get_device_capability=lambda device: tuple(GPUS[_index(device)]["capability"]),
    empty_cache=lambda: None,
)
backends = _Namespace(
    cuda=_Namespace(flash_sdp_enabled=lambda: True, math_sdp_enabled=lambda: True),
    cudnn=_Namespace(version=lambda: 91002),
    cpu=_Namespace(get_cpu_capability=lambda: "AVX2"),
)
