"""Facts about this machine and durable file operations: mounts, disks, CPUs, page cache, renames."""
