"""The proof: load the weights as the user's own script does, draw, and know that the picture is right.

The parent's side never imports torch: ``process`` starts the drawing process and talks to it in ``messages``;
``pipeline_folder`` reads what a model folder says and refuses what would run foreign code; ``fits`` decides
which size and placement the memory allows; ``judging`` turns measurements into a verdict; ``goldens`` keeps
and finds the pictures drawn from known good weights; ``attestation`` writes down what was found.

``measures`` and ``similarity`` are numpy on pixels. ``drawing`` is the process that draws: torch, diffusers,
modelscope, transformers and PIL are imported there and nowhere else.
"""
