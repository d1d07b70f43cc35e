"""The jail of QEMU's process: what is left to a guest that has taken QEMU over.

``places`` decides which files of the host QEMU sees, ``ids`` which user ids of the host it has, ``cgroups`` how much
memory; ``launcher`` runs the program that builds the jail (``launcher/`` beside ``src/``, in C) and starts QEMU in it.
"""
