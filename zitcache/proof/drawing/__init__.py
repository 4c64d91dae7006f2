"""The process that draws. Only here torch, diffusers, modelscope, transformers and PIL are imported, late.

``worker`` is its main loop, ``channel`` its end of the pipes; ``guard`` keeps it off the network;
``packages`` says what is not installed; ``devices`` what there is to draw on; ``loading`` loads the
pipeline, ``painter`` draws with it, ``pictures`` reads and writes PNG and makes the contact sheet.
"""
