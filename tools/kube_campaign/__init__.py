"""Runs a cluster of Kubernetes on this host, apart from it, and holds what its pods do in VMs against promises."""
