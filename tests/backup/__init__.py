"""What ``backup`` promises, on real files."""
