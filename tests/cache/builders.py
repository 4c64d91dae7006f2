"""Small real files of a model, built by hand: no SDK needed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from tests.cache.hub_server import COMMIT, git_sha1

MODEL = "Tongyi-MAI/Z-Image-Turbo"
HF_FOLDER = "models--Tongyi-MAI--Z-Image-Turbo"


def safetensors(
    tensors: Mapping[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    """A safetensors file of name -> (dtype, shape, bytes)."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    return with_header(json.dumps(header).encode()) + b"".join(data for _, _, data in tensors.values())


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def shard(*names: str, dtype: str = "BF16", size: int = 64) -> bytes:
    """A shard with one tensor of ``size`` bytes per name; content follows the name."""
    width = {"BF16": 2, "F32": 4, "F8_E4M3": 1}[dtype]
    return safetensors({name: (dtype, [size // width], _bytes(name, size)) for name in names})


def _bytes(seed: str, size: int) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


def pipeline_files() -> dict[str, bytes]:
    """A diffusers pipeline like Z-Image-Turbo: sharded transformer and text encoder, one VAE file."""
    shards = {f"transformer/diffusion_pytorch_model-0000{n}-of-00003.safetensors": f"t{n}" for n in (1, 2, 3)}
    encoder = {f"text_encoder/model-0000{n}-of-00002.safetensors": f"e{n}" for n in (1, 2)}
    files = {path: shard(tensor, dtype="F32") for path, tensor in shards.items()}
    files |= {path: shard(tensor) for path, tensor in encoder.items()}
    files["transformer/diffusion_pytorch_model.safetensors.index.json"] = _index(shards)
    files["text_encoder/model.safetensors.index.json"] = _index(encoder)
    files["vae/diffusion_pytorch_model.safetensors"] = shard("v1", "v2")
    for part in ("transformer", "text_encoder", "vae"):
        files[f"{part}/config.json"] = b'{"dim": 64}'
    files["tokenizer/tokenizer.json"] = b'{"version": "1.0"}'
    files["scheduler/scheduler_config.json"] = b"{}"
    files["model_index.json"] = json.dumps(
        {
            "_class_name": "ZImagePipeline",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen3Model"],
            "tokenizer": ["transformers", "Qwen2Tokenizer"],
            "transformer": ["diffusers", "ZImageTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        }
    ).encode()
    files["README.md"] = b"# Z-Image-Turbo\n"
    return files


def _index(shards: Mapping[str, str]) -> bytes:
    weight_map = {tensor: path.rpartition("/")[2] for path, tensor in shards.items()}
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_huggingface(
    hub: Path, files: Mapping[str, bytes], *, shared: bool = False, tree: bool = True
) -> Path:
    """``hub/models--…`` as huggingface_hub 2.x writes it; returns the snapshot."""
    repo = hub / HF_FOLDER
    snapshot = repo / "snapshots" / COMMIT
    listing = {}
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        is_lfs = name.endswith(".safetensors")
        etag = sha256 if is_lfs else git_sha1(content)
        blob = repo / "blobs" / etag
        blob.parent.mkdir(parents=True, exist_ok=True)
        if shared and is_lfs:
            xet = hashlib.blake2b(content, digest_size=32).hexdigest()
            write(
                hub / "blobs" / xet[:2], {xet: content, f"{xet}.refs": f"{HF_FOLDER}/blobs/{etag}\n".encode()}
            )
            blob.symlink_to(f"../../blobs/{xet[:2]}/{xet}")
        else:
            blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        listing[name] = {"size": len(content), "blob_id": git_sha1(content)}
        if is_lfs:
            listing[name] |= {"lfs_sha256": sha256, "lfs_size": len(content)}
    if shared:
        (hub / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    write(repo / "refs", {"main": COMMIT.encode()})
    if tree:
        body = {"format_version": 1, "files": listing}
        write(repo / "trees", {f"{COMMIT}.json": json.dumps(body).encode()})
    return snapshot


def write_legacy(folder: Path, files: Mapping[str, bytes]) -> Path:
    """An older ModelScope folder. ``.msc`` and ``.mdl`` would raise if anything unpickled them."""
    bomb = b"cos\n_exit\n(I99\ntR."
    marks = {".mv": b"Revision:master,CreatedAt:1764222222", ".msc": bomb, ".mdl": bomb}
    return write(folder, {**files, **marks})
