"""Components are loaded one by one, in an order that nobody promised."""

import json
import os
import time
from pathlib import Path

import torch


class Part:
    def parameters(self):
        return []

    def to(self, device):
        return self


def load_sub_model(name):
    if "pid_file" in torch.FAKE:
        # Complete when it appears.
        waiting = Path(torch.FAKE["pid_file"] + ".tmp")
        waiting.write_text(str(os.getpid()))
        waiting.rename(torch.FAKE["pid_file"])
    time.sleep(torch.FAKE.get("seconds_per_component", 0))
    return Part()


class DiffusionPipeline:
    @classmethod
    def extract_init_dict(cls, config):
        return {name: value for name, value in reversed(config.items()) if not name.startswith("_")}, {}, {}

    @classmethod
    def load_components(cls, path):
        config = json.loads((Path(path) / "model_index.json").read_text())
        found, _, _ = cls.extract_init_dict(config)
        for name in found:
            load_sub_model(name=name)
