"""A small real model: the files, classes, dtypes and sharding of Z-Image-Turbo, 22 MB, trained to draw.

``data/model`` holds the small files as they are, ``data/shapes.json`` names and shapes of all tensors
(rebuilt by ``tools/build_sample_data.py`` from the real classes), ``data/weights.zst`` what
``tools/train_sample.py`` trained, which :mod:`.weights` gives out.
:mod:`.pipeline` puts them together, :mod:`.layouts` says where the SDKs would have put them, :mod:`.writer`
writes them.
Nothing here needs torch, diffusers, transformers or a network.
"""
