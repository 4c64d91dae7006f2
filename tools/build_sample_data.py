"""Rebuild the data that ``zitcache sample`` ships: tensor names and shapes, tokenizer, legacy markers.

The JSON configs under ``zitcache/cache/sample/data/model`` are written by hand and are the source of truth:
the classes of diffusers and transformers are built from them, saved with the real sharding, and the saved
headers are what ``shapes.json`` records. Run it after changing a config, from the repository root:

    pip install -c constraints-dev.txt -e '.[test-models]'
    python -m tools.build_sample_data

The weights are trained for these very shapes and tokens: ``tools/train_sample.py`` comes next.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

from tools.scenes import corpus

DATA = Path(__file__).resolve().parent.parent / "zitcache" / "cache" / "sample" / "data"
MODEL = DATA / "model"

# Chosen so that every component is cut as the real one is: two larger shards and a smaller rest.
MAX_SHARD_BYTES = {"transformer": 7_500_000, "text_encoder": 740_000, "vae": 1 << 30}
DTYPES = {"transformer": "float32", "text_encoder": "bfloat16", "vae": "bfloat16"}

BPE_TOKENS = 704
# The added tokens of Qwen3; only the first group counts as special there.
SPECIAL_TOKENS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
]
OTHER_TOKENS = [
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
]
# How transformers' Qwen2Tokenizer splits text before the merges (its PRETOKENIZE_REGEX).
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The roles and thinking switch of Qwen3's template, without its tools and reasoning history.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}"
    "{%- endif %}"
)
# In every prompt, by the template above.
ROLES = ["user\n", "assistant\n"] * 1000
PROMPTS = """
A cute cyberpunk cat, neon lights, 8k high definition
A photograph of a red fox in the snow, soft morning light, shallow depth of field, highly detailed
A portrait of an old woman with a warm smile, studio lighting, 85mm lens, sharp focus, film grain
The interior of a small cafe in the rain, people reading at the window, reflections on the wet street
An oil painting of a harbour at sunset with sailing boats, in the style of the impressionists
A watercolour of mountains and a lake, pine trees in the foreground, clouds over the peaks
A futuristic city at night with flying cars, tall buildings, neon signs and purple fog
A bowl of fresh fruit on a wooden table, apples, grapes and oranges, natural light, still life
An astronaut riding a white horse on the moon, the earth rising behind, cinematic lighting
A children's book illustration of a little bear and a rabbit having tea in the forest
A poster with the words "Hello World" in large red letters on a yellow background
Macro photography of a blue butterfly on a green leaf, drops of water, bokeh background
A steam train crossing a stone bridge in autumn, orange trees, smoke in the cold air
A minimal logo of a mountain in a circle, flat design, vector, black on white
A girl in a traditional dress standing in a garden with cherry blossoms, high resolution, realistic
A modern living room with a grey sofa, large windows, plants and a wooden floor, interior design
A close up of a robot hand holding a flower, 3d render, octane, volumetric light, ultra detailed
一只可爱的赛博朋克猫,霓虹灯,高清
一位年轻女子穿着红色汉服,站在古老的花园里,背景是夜晚的灯光
雪山下的湖泊,清晨的阳光,写实摄影,高清细节
""".strip().splitlines()


def build_model(component: str) -> Any:
    """An instance of the real class, built from its hand-written config."""
    import torch
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import AutoConfig, Qwen3ForCausalLM

    torch.manual_seed(0)
    folder = MODEL / component
    if component == "text_encoder":
        model: Any = Qwen3ForCausalLM(AutoConfig.from_pretrained(folder))
    else:
        model_class = {"transformer": ZImageTransformer2DModel, "vae": AutoencoderKL}[component]
        model = model_class.from_config(model_class.load_config(folder))
    return model.to(getattr(torch, DTYPES[component]))


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file this program has just written."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header


def shapes_of(component: str) -> dict[str, Any]:
    """What the real ``save_pretrained`` writes: dtype, index name, and per file its tensors in file order."""
    with tempfile.TemporaryDirectory() as scratch:
        build_model(component).save_pretrained(scratch, max_shard_size=MAX_SHARD_BYTES[component])
        folder = Path(scratch)
        index = [path.name for path in folder.glob("*.index.json")]
        files = {path.name: read_header(path) for path in sorted(folder.glob("*.safetensors"))}
    dtypes = {tensor["dtype"] for tensors in files.values() for tensor in tensors.values()}
    if len(dtypes) != 1:
        raise SystemExit(f"{component}: expected one dtype, got {dtypes}")
    return {
        "dtype": dtypes.pop(),
        "index": index[0] if index else None,
        "files": {
            name: {
                tensor: info["shape"]
                for tensor, info in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"][0])
            }
            for name, tensors in files.items()
        },
    }


def write_shapes() -> None:
    """``shapes.json``, one tensor a line."""
    lines: list[str] = []
    for component in ("transformer", "text_encoder", "vae"):
        shapes = shapes_of(component)
        files = [
            f"   {json.dumps(name)}: {{\n"
            + ",\n".join(
                f"    {json.dumps(tensor)}: {json.dumps(shape)}" for tensor, shape in tensors.items()
            )
            + "\n   }"
            for name, tensors in shapes["files"].items()
        ]
        head = f'  "dtype": {json.dumps(shapes["dtype"])},\n  "index": {json.dumps(shapes["index"])},\n'
        lines.append(f' "{component}": {{\n{head}  "files": {{\n' + ",\n".join(files) + "\n  }\n }")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (DATA / "shapes.json").write_text(text)


def train_tokenizer() -> dict[str, Any]:
    """A byte-level BPE in the form of Qwen2's ``tokenizer.json``, with the added tokens of Qwen3."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=BPE_TOKENS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*PROMPTS, *ROLES, *corpus()], trainer)
    if tokenizer.get_vocab_size() != BPE_TOKENS:
        raise SystemExit(f"the prompts give {tokenizer.get_vocab_size()} tokens, not {BPE_TOKENS}: add some")
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in OTHER_TOKENS])
    result: dict[str, Any] = json.loads(tokenizer.to_str())
    return result


def write_tokenizer() -> None:
    """The four tokenizer files."""
    tokenizer = train_tokenizer()
    vocabulary = tokenizer["model"]["vocab"]
    merges = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in tokenizer["added_tokens"]
        },
        "additional_special_tokens": SPECIAL_TOKENS[1:],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    folder = MODEL / "tokenizer"
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def write_legacy_markers() -> None:
    """What ModelScope SDKs up to 1.37 leave in a model's directory (its ``hub/utils/caching.py``).

    ``.msc`` and ``.mdl`` are pickles of plain lists, dicts and strings. zitcache ships their bytes and never
    loads any pickle.
    """
    shapes = json.loads((DATA / "shapes.json").read_text())
    names = [path.relative_to(MODEL).as_posix() for path in MODEL.rglob("*") if path.is_file()]
    for component, entry in shapes.items():
        names += [f"{component}/{name}" for name in entry["files"]]
        names += [f"{component}/{entry['index']}"] if entry["index"] else []
    keys = [{"Path": name, "Revision": hashlib.sha1(name.encode()).hexdigest()} for name in sorted(names)]
    legacy = DATA / "legacy"
    (legacy / "msc").write_bytes(pickle.dumps(keys, protocol=4))
    (legacy / "mdl").write_bytes(pickle.dumps({"id": "Tongyi-MAI/Z-Image-Turbo"}, protocol=4))
    (legacy / "mv").write_text("Revision:master,CreatedAt:1764241200")


def main() -> None:
    """Rewrite every derived file in place."""
    write_tokenizer()
    write_shapes()
    write_legacy_markers()
    for path in sorted(p for p in DATA.rglob("*") if p.is_file()):
        print(f"{path.stat().st_size:8d}  {path.relative_to(DATA)}")


if __name__ == "__main__":
    main()
