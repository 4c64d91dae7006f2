"""modelscope hands on what diffusers has."""

from diffusers import ZImagePipeline as ZImagePipeline
