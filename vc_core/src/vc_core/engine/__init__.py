"""One pod at work: the VM, its containers, their streams and logs, and the pod's record."""
