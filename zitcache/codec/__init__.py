"""Lossless compression of weights: byte planes, near-Huffman zstd, and a self-describing frame."""
