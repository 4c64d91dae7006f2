"""The sample's networks: built from its configs, stored between the phases of training, made a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

COMPONENTS = ("transformer", "text_encoder", "vae")
CAPTION_MULTIPLE = 32


class Parts:
    """The networks and the tokenizer, built from the JSON files of the sample's model folder."""

    def __init__(self, model: Path, seed: int) -> None:
        from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
        from transformers import AutoConfig, AutoTokenizer, Qwen3Model

        torch.manual_seed(seed)
        config = ZImageTransformer2DModel.load_config(model / "transformer")
        self.transformer: Any = ZImageTransformer2DModel.from_config(config)
        self.text_encoder: Any = Qwen3Model(AutoConfig.from_pretrained(model / "text_encoder")).float()
        self.vae: Any = AutoencoderKL.from_config(AutoencoderKL.load_config(model / "vae"))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model / "tokenizer")
        self.scheduler: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(model / "scheduler")
        _initialise(self.transformer)

    def networks(self) -> dict[str, nn.Module]:
        """The three networks by the name of their folder."""
        return {name: getattr(self, name) for name in COMPONENTS}

    def to(self, device: torch.device | str) -> None:
        """Move the networks."""
        for network in self.networks().values():
            network.to(device)

    def pipeline(self) -> Any:
        """The real pipeline around these very networks."""
        from diffusers import ZImagePipeline

        pipeline = ZImagePipeline(
            scheduler=self.scheduler,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            transformer=self.transformer,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def save(parts: Parts, folder: Path) -> None:
    """Write the weights, rounded to bf16, as bits: ``transformer.npz`` and ``others.npz``."""
    bits = {
        f"{component}/{name}": tensor.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy()
        for component in COMPONENTS
        for name, tensor in parts.networks()[component].state_dict().items()
    }
    transformer = {name: values for name, values in bits.items() if name.startswith("transformer/")}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "transformer.npz", **transformer)
    np.savez(folder / "others.npz", **{name: bits[name] for name in bits.keys() - transformer.keys()})


def load(parts: Parts, folder: Path) -> None:
    """Take over what :func:`save` wrote."""
    for file in ("transformer.npz", "others.npz"):
        with np.load(folder / file) as stored:
            for name in stored.files:
                component, _, tensor = name.partition("/")
                values = torch.from_numpy(stored[name]).view(torch.bfloat16).float()
                parts.networks()[component].state_dict()[tensor].copy_(values)


def tokenise(tokenizer: Any, prompts: list[str], longest: int) -> tuple[Tensor, Tensor]:
    """Ids [prompts, tokens] inside the chat template, padded to a multiple of 32, and true lengths."""
    texts = [f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n" for prompt in prompts]
    width = -(-longest // CAPTION_MULTIPLE) * CAPTION_MULTIPLE
    encoded = tokenizer(texts, padding="max_length", max_length=width, truncation=True, return_tensors="pt")
    return encoded.input_ids, encoded.attention_mask.sum(1)


def _initialise(transformer: Any) -> None:
    for name, parameter in transformer.named_parameters():
        if parameter.ndim == 2 and "pad_token" not in name:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        if "pad_token" in name:
            nn.init.normal_(parameter, std=0.02)
    for layer in transformer.all_final_layer.values():
        nn.init.zeros_(layer.linear.weight)
    for block in (*transformer.noise_refiner, *transformer.layers):
        nn.init.normal_(block.adaLN_modulation[0].weight, std=0.02)
        # A gate that is shut (tanh 0) passes no gradient to the block behind it: open it a little.
        gates = block.adaLN_modulation[0].bias.data.view(4, -1)
        gates[1].fill_(0.3)
        gates[3].fill_(0.3)
