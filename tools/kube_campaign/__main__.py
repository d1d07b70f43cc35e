"""Runs a cluster of Kubernetes on this host, apart from it, and holds what its pods do in VMs against promises.

Usage: python -m kube_campaign [WORD...], as root. WORD: tries only the promises whose sentences have one of the words.

Kubernetes is built of Debian's source package, once. The cluster has one node: namespaces of its own, in which
containerd, etcd and the plug-ins of CNI are those of this host's Debian packages, and directories of its own below
.cache/kubernetes. vc-runtime is installed there by the manifests of runtimes/kubernetes.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kube_campaign import installation, times
from kube_campaign.census import census
from kube_campaign.cluster import Cluster
from kube_campaign.node import wait_for
from kube_campaign.promises import ALONE, PROMISES, removed
from kube_campaign.setting import CACHE, NoClusterError, new_cluster

#: Promises that are tried at once, for two processors: they wait for a third of their time.
_AT_ONCE = 3

#: Seconds after the last pod was deleted, for what engines had of it; kubelet collects some of that every minute.
_SETTLE = 180.0


def main() -> int:
    """Run the campaign, and return 0 if all promises are held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="of the promises that are tried; without, all are")
    words = parser.parse_args().words
    chosen = [name for name in PROMISES if not words or any(word in name for word in words)]
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with new_cluster(build=True) as (made, wheels):
            failed = _campaign(made, wheels, chosen, every=not words)
    except NoClusterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{failed} failed; {CACHE}/node/logs has the logs of the cluster" if failed else "all promises are held")
    return 1 if failed else 0


def _campaign(made: Cluster, wheels: Path, chosen: list[str], every: bool) -> int:
    """Try promises, and print a line for each; return how many are not held."""
    installation.give_guest(made)
    sentence = "the installer's manifests make a labelled node run pods of the class"
    if _try(sentence, lambda: installation.install(made, wheels)):
        return 1
    before = census(made)

    def attempt(name: str) -> int:
        return _try(name, lambda: PROMISES[name](made))

    def nothing_left() -> None:
        def left() -> list[str]:
            return [one for one in census(made) if one not in before]

        wait_for(lambda: not left(), lambda: "; ".join(left()), _SETTLE)

    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        failed = sum(pool.map(attempt, [name for name in chosen if name not in ALONE]))
    finally:  # when interrupted, without waiting: what the threads wait for ends with the node
        pool.shutdown(wait=False, cancel_futures=True)
    failed += sum(attempt(name) for name in chosen if name in ALONE)
    made.kubectl("delete", "all", "--all", "--force", "--grace-period=0")  # of promises that were not held
    failed += _try(
        "no process, mount, control group, interface or record is left of pods that are deleted", nothing_left
    )
    if every:
        for line in times.measure(made):
            print(f"      {line}", flush=True)
        sentence = "the programs are removed from the node, and pods of other classes run there as before"
        failed += _try(sentence, lambda: removed(made))
    return failed


def _try(name: str, check: Callable[[], None]) -> int:
    """Print whether a promise is held, and how long that took; return 1 if not."""
    began = time.monotonic()
    try:
        check()
    except (AssertionError, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        print(
            f"FAIL  {time.monotonic() - began:6.1f} s  {name}: {str(error) or traceback.format_exc(limit=-2)}",
            flush=True,
        )
        return 1
    print(f"ok    {time.monotonic() - began:6.1f} s  {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
