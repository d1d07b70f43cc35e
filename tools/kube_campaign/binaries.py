"""Kubernetes of Debian's source package, built once with Debian's Go."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from podman_suite import output, source_options

#: What a cluster of one node runs. etcd, containerd and the plug-ins of CNI are in Debian packages.
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")

#: Seconds for the build, which takes some 20 minutes on two processors.
_BUILD_TIMEOUT = 3 * 3600.0


def kept(cache: Path) -> Path | None:
    """Return the directory that holds the programs, None if they are not built yet."""
    return max(cache.glob("*/bin"), default=None)


def programs(cache: Path) -> Path:
    """Return the directory that holds the programs, which are built unless they are there.

    ``cache``: where they are kept, by the version of the source package.
    Raises subprocess.CalledProcessError when the package cannot be fetched or built.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if (built := kept(cache)) is not None:
        return built
    lists = cache / "apt"
    shutil.rmtree(lists, ignore_errors=True)
    options = [*source_options(lists), "-o", "Debug::NoLocking=1"]
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True)
    command = ["apt-get", *options, "source", "--download-only", "-qq", "kubernetes"]
    subprocess.run(command, cwd=lists, check=True)
    (archive,) = lists.glob("kubernetes_*.orig.tar.*")
    version = archive.name.split("_")[1].partition(".orig")[0]
    source = cache / version / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    subprocess.run(["tar", "-C", str(source), "--strip-components=1", "-xf", str(archive)], check=True)
    return _built(source, cache / version / "bin")


def _built(source: Path, place: Path) -> Path:
    """Build the programs and move them to their place; the source and what the build made are removed."""
    print(
        f"builds Kubernetes {place.parent.name} with {output('go', 'version')}; this takes some 20 minutes", flush=True
    )
    home = source.parent / "home"
    home.mkdir(exist_ok=True)
    # The rest as in the package's debian/rules.
    environment = {**os.environ, "CGO_ENABLED": "0", "HOME": str(home), "GOCACHE": str(home / "go-cache")}
    what = " ".join(f"cmd/{name}" for name in PROGRAMS)
    with (place.parent / "build.log").open("wb") as log:
        subprocess.run(
            ["nice", "-n", "10", "make", f"WHAT={what}"],
            cwd=source,
            env=environment,
            stdout=log,
            stderr=log,
            timeout=_BUILD_TIMEOUT,
            check=True,
        )
    fresh = place.with_name("bin.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for name in PROGRAMS:
        shutil.copy(source / "_output/bin" / name, fresh / name)
    fresh.rename(place)
    shutil.rmtree(source)
    shutil.rmtree(home)
    return place
