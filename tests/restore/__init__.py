"""What ``restore`` promises, on real files."""
