"""One pod at work: the VM, its containers, their streams and logs, and the pod's record.

From the top: ``engine`` validates and orders operations; ``runtime`` brings the VM and its containers up and down;
``containers`` are the main processes; ``machine`` is the VM with its agent; ``assembly``, ``guest_image`` and
``guest_network`` are what it is made from; ``streams`` and ``logs`` carry bytes; ``ledger`` is the pod's record.
"""
