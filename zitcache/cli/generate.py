"""``zitcache generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.drawing import Device, Dtype, Guidance, Model, Size, Steps, Trust
from zitcache.cli.options import Cache, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.generate import render_generate

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.generate import GenerateReport

MAX_COUNT = 10_000


@command(
    examples="""
zitcache generate --prompt "a red fox in the snow" -o fox.png
zitcache generate --prompts-file prompts.txt -o pictures/
zitcache generate --count 4 --seed 7           seeds 7, 8, 9 and 10
"""
)
def generate(
    output: OutputOptions,
    *,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="What to draw. Default: a cat.")
    ] = None,
    picture: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A PNG, or a folder. What is there is never overwritten."
        ),
    ] = "picture.png",
    prompts_file: Annotated[
        str | None, typer.Option("--prompts-file", metavar="FILE", help="Draw every line of this file.")
    ] = None,
    count: Annotated[str, typer.Option("--count", metavar="N", help="Pictures for each prompt.")] = "1",
    seed: Annotated[
        str, typer.Option("--seed", metavar="N", help="Of the first picture; then one more for each.")
    ] = "42",
    steps: Steps = None,
    size: Size = None,
    guidance: Guidance = None,
    model: Model = None,
    cache: Cache = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust: Trust = False,
) -> int:
    """Draw pictures with a model of the cache, offline. Settings are kept in each PNG.

    Z-Image is loaded with modelscope's ZImagePipeline where that is installed, other models with the
    diffusers pipeline that they name. Needs: pip install 'zitcache[generate]'
    """

    def work(session: Session) -> Outcome[GenerateReport]:
        from pathlib import Path

        from zitcache.cli.drawing import parse_drawing, parse_integer
        from zitcache.errors import UsageError
        from zitcache.proof.settings import DEFAULT_PROMPT, MAX_SEED
        from zitcache.tasks.generate import GenerateRequest, generate

        if prompt is not None and prompts_file is not None:
            raise UsageError(
                "--prompt and --prompts-file both say what to draw.", hint="Give one of the two."
            )
        values = parse_drawing(size=size, steps=steps, guidance=guidance, dtype=dtype, device=device)
        request = GenerateRequest(
            prompts=(prompt if prompt is not None else DEFAULT_PROMPT,),
            output=picture,
            cache=cache,
            model=model,
            prompts_file=Path(prompts_file) if prompts_file else None,
            seed=parse_integer("--seed", seed, 0, MAX_SEED),
            count=parse_integer("--count", count, 1, MAX_COUNT),
            steps=values.steps,
            size=values.size,
            guidance=values.guidance,
            dtype=values.dtype,
            device=values.device,
            trust=trust,
        )
        return generate(request, session)

    return run("generate", output, work, render_generate, again=again(cache=cache), quiet_hides=False)
