"""All files of the sample model, in memory: path in the repository to content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from zitcache.cache.sample.shapes import DATA, Component, load_components, read_folder
from zitcache.cache.sample.weights import WeightSource, trained_weights

if TYPE_CHECKING:
    from numpy import uint16
    from numpy.typing import NDArray

MODEL_ID = "Tongyi-MAI/Z-Image-Turbo"


def pipeline_files(weights: WeightSource = trained_weights) -> dict[str, bytes]:
    """Every file of the model by POSIX path, sorted; the same ``weights`` always give the same bytes."""
    contents = read_folder(DATA / "model")
    for folder, component in load_components().items():
        for name, shapes in component.files.items():
            tensors = {tensor: weights(folder, tensor, shape) for tensor, shape in shapes.items()}
            contents[f"{folder}/{name}"] = encode_safetensors(component.dtype, shapes, tensors)
        if component.index is not None:
            contents[f"{folder}/{component.index}"] = _index(component)
    return dict(sorted(contents.items()))


def encode_safetensors(
    dtype: str, shapes: dict[str, tuple[int, ...]], tensors: dict[str, NDArray[uint16]]
) -> bytes:
    """One safetensors file: u64 header length, JSON header padded with spaces to 8 bytes, the tensors.

    ``tensors`` are bf16 bits; for the dtype "F32" they become the high halves of float32 values, whose low
    16 bits are zero as in the real transformer. Format: the safetensors README, section "Format".
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    payload: list[bytes] = []
    offset = 0
    for name, shape in shapes.items():
        data = _encode_tensor(dtype, tensors[name])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        payload.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *payload])


def _encode_tensor(dtype: str, bits: NDArray[uint16]) -> bytes:
    if dtype == "F32":
        return (bits.astype("<u4") << 16).tobytes()
    return bits.astype("<u2").tobytes()


def _index(component: Component) -> bytes:
    weight_map = {tensor: name for name, tensors in component.files.items() for tensor in tensors}
    index = {"metadata": {"total_size": component.tensor_bytes()}, "weight_map": weight_map}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()
