"""The supervisor of one running pod, and the service it offers.

``service`` answers requests for an engine; ``process`` is the process: lock, socket, engine, service. ``messages`` are
what clients and supervisors exchange, ``wire`` how.
"""
