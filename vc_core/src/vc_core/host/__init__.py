"""The host's side of a pod: mounts, shared directories, root file systems, paths and processes."""
