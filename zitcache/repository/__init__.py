"""The snapshot format, version 1: config, packs, index, snapshots. Written down in docs/FORMAT.md."""
