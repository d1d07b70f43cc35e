"""Images are pulled from a real registry: verified, once, and whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import vc_core as vc
from image_layouts import (
    Registry,
    add_blob,
    blob,
    entry,
    layer,
    make_index,
    make_layout,
    manifest_digest,
    tool,
)
from stalling_registry import StallingRegistry
from vc_core import aio
from vc_core.errors import ConfigError, ImageError, ImageNotFoundError
from vc_core.images import pull, tools
from vc_core.images.manifests import own_architecture
from vc_core.store.roots import Roots
from vc_core.testing.slowness import scaled
from waiting import PATIENCE

pytestmark = pytest.mark.needs("docker-registry", "skopeo", "umoci")

VIRTC = str(Path(sys.executable).with_name("virtc"))

#: "user:secret", as htpasswd -B writes it.
USERS = "user:$2b$05$YNjjTPatNLZDdv9tr2ych..nHME6LEPU3LtRvmDhsTwtESrLnE2Qa\n"


@pytest.fixture
def root(roots: Roots) -> Path:
    """Return the directory in which state and run root of the test are."""
    return roots.state.parent


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with TemporaryDirectory() as place:
        made = Registry(Path(place))
        yield made
        made.close()


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def app(layouts: Path) -> Path:
    """Return the layout of an image whose one layer is large enough to be stopped half way."""
    settings = {"Entrypoint": ["/run"], "Cmd": ["fast"], "Env": ["A=1"], "User": "1000:29", "WorkingDir": "/w"}
    return make_layout(layouts / "app", [layer(entry("run", os.urandom(1 << 20), mode=0o755))], settings)


@pytest.fixture(scope="module")
def name(registry: Registry, app: Path) -> str:
    return registry.push(app, "team/app:1")


def pulled(reference: str) -> vc.ImageStatus:
    return vc.pull_image(reference, tls_verify=False)


def nothing_left(root: Path) -> bool:
    return {one.name for one in (root / "state/images").iterdir()} <= {".lock", "names.json"}


def test_a_pulled_image_has_its_files_its_settings_its_name_and_its_digest(root: Path, name: str, app: Path) -> None:
    image = pulled(name)
    assert (image.references, image.digest) == ((name,), manifest_digest(app))
    assert (image.entrypoint, image.cmd, image.env) == (("/run",), ("fast",), ("A=1",))
    assert (image.user, image.work_dir, image.size) == ("1000:29", "/w", 1 << 20)
    assert (Path(image.root_fs) / "run").stat().st_mode & 0o777 == 0o755
    assert vc.list_images() == [image]
    assert vc.status_image(name) == image


def test_what_is_pulled_again_or_by_another_name_is_unpacked_once(
    root: Path, name: str, app: Path, registry: Registry
) -> None:
    first = Path(pulled(name).root_fs).stat()
    assert os.path.samestat(first, Path(pulled(name).root_fs).stat())
    other = registry.push(app, "other/name:2")
    assert pulled(other).references == tuple(sorted((name, other)))
    assert os.path.samestat(first, Path(pulled(other).root_fs).stat())


def test_a_name_that_is_pinned_to_a_digest_is_found_without_the_registry(root: Path, name: str, app: Path) -> None:
    pin = f"{name.rpartition(':')[0]}@{manifest_digest(app)}"
    image = pulled(pin)
    assert image.references == (pin,)
    assert vc.status_image(f"unreachable.invalid/app@{image.digest}") == image


def test_a_pin_that_the_registry_has_not_is_one_sentence(root: Path, name: str) -> None:
    pin = f"{name}@sha256:{'0' * 64}"
    with pytest.raises(
        ImageError,
        match=rf"image '{pin}' cannot be pulled: reading manifest .*: manifest unknown; the registry has no such image",
    ):
        pulled(pin)
    assert nothing_left(root)


def test_a_layer_that_was_changed_in_the_registry_is_refused(root: Path, registry: Registry, layouts: Path) -> None:
    layout = make_layout(layouts / "spoiled", [layer(entry("a", os.urandom(4096)))])
    spoiled = registry.push(layout, "spoiled")
    stored = registry.stored(f"sha256:{blob(layout, 'layers').name}")
    data = stored.read_bytes()
    stored.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ImageError, match=r"[Dd]igest"):
        pulled(spoiled)
    assert nothing_left(root)


def test_a_manifest_that_was_changed_in_the_registry_is_refused(root: Path, registry: Registry, layouts: Path) -> None:
    layout = make_layout(layouts / "forged", [layer(entry("a", os.urandom(64)))])
    forged = registry.push(layout, "forged")
    digest = manifest_digest(layout)
    stored = registry.stored(digest)
    stored.write_bytes(stored.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion":  2'))
    with pytest.raises(ImageError):
        pulled(f"{forged}@{digest}")
    assert nothing_left(root)


def test_of_an_index_the_image_for_this_host_is_taken_and_the_digest_of_the_index_names_it_too(
    root: Path, registry: Registry, layouts: Path
) -> None:
    layout = make_layout(layouts / "indexed", [layer(entry("a"))])
    inner = manifest_digest(layout)
    indexed = registry.push(make_index(layout, ["s390x", own_architecture()]), "indexed", "--all")
    image = pulled(indexed)
    assert image.digest == inner
    assert vc.status_image(f"{indexed}@{manifest_digest(layout)}") == image


def test_an_index_without_an_image_for_this_host_names_those_that_it_has(
    root: Path, registry: Registry, layouts: Path
) -> None:
    layout = make_index(make_layout(layouts / "foreign", [layer(entry("a"))]), ["s390x", "mips"])
    foreign = registry.push(layout, "foreign", "--all")
    with pytest.raises(ImageError, match=r"is not made for linux/\w+, but for linux/mips, linux/s390x"):
        pulled(foreign)
    assert nothing_left(root)


def test_a_claim_that_does_not_fit_the_disk_is_refused_before_anything_is_fetched(
    root: Path, registry: Registry, layouts: Path
) -> None:
    layout = make_layout(layouts / "claim", [layer(entry("a"))])
    registry.push(layout, "claim")
    manifest = json.loads((layout / "blobs" / manifest_digest(layout).replace(":", "/")).read_text(encoding="ascii"))
    manifest["layers"][0]["size"] = 1 << 60
    put = urllib.request.Request(
        f"http://{registry.address}/v2/claim/manifests/huge",
        json.dumps(manifest).encode(),
        {"Content-Type": manifest["mediaType"]},
        method="PUT",
    )
    urllib.request.urlopen(put).close()
    with pytest.raises(
        ImageError,
        match=r"cannot be pulled: it takes 1099511627776 MiB at least, and the disk of '.*' has \d+ MiB left",
    ):
        pulled(f"{registry.address}/claim:huge")
    assert nothing_left(root)


def test_a_tag_that_moved_is_another_image_and_the_former_one_is_kept_without_a_name(
    root: Path, registry: Registry, layouts: Path
) -> None:
    moving = registry.push(make_layout(layouts / "before", [layer(entry("before"))]), "moving")
    before = pulled(moving)
    registry.push(make_layout(layouts / "after", [layer(entry("after"))]), "moving")
    assert vc.status_image(moving) == before, "a pull is what changes it"
    after = pulled(moving)
    assert after.digest != before.digest
    assert vc.status_image(before.digest).references == ()


def test_a_registry_that_asks_for_a_password_gets_that_of_skopeo(
    root: Path, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "closed"
    place.mkdir()
    closed = Registry(place, USERS)
    try:
        credentials = {closed.address: {"auth": base64.b64encode(b"user:secret").decode()}}
        file = tmp_path / "auth.json"
        file.write_text(json.dumps({"auths": credentials}), encoding="ascii")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
        with pytest.raises(
            ImageError, match=r"cannot be pulled: .*(unauthorized|authentication required).*skopeo login"
        ):
            pulled(f"{closed.address}/app")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
        assert pulled(closed.push(app, "app")).digest == manifest_digest(app)
    finally:
        closed.close()


def test_a_registry_without_tls_is_refused_unless_that_is_allowed(root: Path, name: str) -> None:
    done = subprocess.run([VIRTC, "image", "pull", name], capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert "HTTP response to HTTPS client" in done.stderr
    allowed = [VIRTC, "image", "pull", "--tls-verify=false", "--quiet", name]
    assert subprocess.run(allowed, capture_output=True, encoding="utf-8").stdout == f"{vc.status_image(name).digest}\n"


@pytest.mark.parametrize("program", ["skopeo", "umoci"])
def test_a_program_that_is_missing_is_named_with_its_package(
    program: str, root: Path, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {one: tools.find(one) for one in ("skopeo", "umoci", "setpriv")}
    for one in found.keys() - {program}:
        (tmp_path / one).symlink_to(found[one])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "_SYSTEM_PATH", str(tmp_path))
    with pytest.raises(ImageError, match=f"{program} is not installed, .*; run: apt install .* {program}"):
        vc.import_image(str(app))


def test_pods_of_an_image_need_no_registry_once_it_is_pulled(root: Path, name: str, app: Path) -> None:
    image = pulled(name)
    container = vc.ContainerConfig(id="c", image=name, cmd=vc.Cmd(args=["slow"]))
    pod = vc.create_pod(vc.PodConfig(hypervisor_type="mock", agent_type="noop", containers=[container]))
    assert vc.status_image(name).pods == (pod.id,)
    config = json.loads((root / "state/pods" / pod.id / "config.json").read_text(encoding="utf-8"))
    [stored] = config["config"]["containers"]
    assert (stored["image"], stored["cmd"]["args"]) == (f"{name}@{image.digest}", ["/run", "slow"])
    pod.delete()
    assert vc.status_image(name).pods == ()


def test_an_image_that_is_missing_is_pulled_when_a_container_is_created_and_refused_by_its_digest(root: Path) -> None:
    def create(image: str) -> None:
        container = vc.ContainerConfig(id="c", image=image, cmd=vc.Cmd(args=["x"]))
        vc.create_pod(vc.PodConfig(hypervisor_type="mock", agent_type="noop", containers=[container]))

    with pytest.raises(
        ImageError,
        match=r"image '127.0.0.1:9/app:latest' cannot be pulled: pinging .*connection refused; correct the registry",
    ):
        create("127.0.0.1:9/app")
    with pytest.raises(ImageNotFoundError, match="is not on this host"):
        create("sha256:" + "0" * 64)
    assert vc.list_pods() == []


def test_progress_is_reported_with_the_part_that_is_done(root: Path, registry: Registry, name: str) -> None:
    steps: list[tuple[str, float | None]] = []
    with StallingRegistry(registry.address) as stalling:

        def note(phrase: str, fraction: float | None) -> None:
            steps.append((phrase, fraction))
            if fraction:
                stalling.go_on()

        vc.pull_image(f"{stalling.address}/team/app:1", tls_verify=False, progress=note)
    assert any(phrase.startswith("pulling ") and " of 1.0 MB" in phrase and part for phrase, part in steps)
    assert steps[-1] == ("unpacking", None)


def test_two_pulls_at_once_fetch_an_image_once(root: Path, registry: Registry, name: str) -> None:
    waits = threading.Event()
    found: list[str] = []
    with StallingRegistry(registry.address) as stalling:
        wanted = f"{stalling.address}/team/app:1"

        def note(phrase: str, _: float | None) -> None:
            if "waiting" in phrase:
                waits.set()

        def fetch() -> None:
            found.append(vc.pull_image(wanted, tls_verify=False, progress=note).digest)

        threads = [threading.Thread(target=fetch) for _ in range(2)]
        threads[0].start()
        assert stalling.stalls.wait(scaled(30))
        threads[1].start()
        assert waits.wait(scaled(30))
        stalling.go_on()
        for thread in threads:
            thread.join(scaled(60))
    assert len(found) == 2
    assert [one.digest for one in vc.list_images()] == [found[0]] == [found[1]]


def working_below(root: Path) -> list[int]:
    """Return the processes that work in a directory below the root."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                where = (process / "cwd").readlink()
            except OSError:
                continue
            if where.is_relative_to(root):
                found.append(int(process.name))
    return found


def wait_until_none_works_below(root: Path) -> None:
    end = time.monotonic() + PATIENCE
    while working_below(root) and time.monotonic() < end:
        pass
    assert working_below(root) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_pull_that_is_ended_half_way_leaves_no_process_and_no_image_and_the_next_one_succeeds(
    number: signal.Signals, root: Path, registry: Registry, name: str
) -> None:
    with StallingRegistry(registry.address) as stalling:
        wanted = f"{stalling.address}/team/app:1"
        with subprocess.Popen([VIRTC, "image", "pull", "--tls-verify=false", wanted], stderr=subprocess.PIPE) as puller:
            assert stalling.stalls.wait(scaled(30))
            assert working_below(root) != []
            puller.send_signal(number)
            _, complaint = puller.communicate(timeout=PATIENCE)
        wait_until_none_works_below(root)
        assert b"Traceback" not in complaint
        assert vc.list_images() == []
        if number != signal.SIGKILL:
            assert nothing_left(root)
        stalling.go_on()
        assert pulled(wanted).references == (wanted,)
    assert sorted(one.name for one in (root / "state/images").iterdir() if one.name.startswith(".")) == [".lock"]


def test_a_pull_that_is_cancelled_leaves_nothing(root: Path, registry: Registry, name: str) -> None:
    async def main(stalling: StallingRegistry) -> None:
        work = asyncio.create_task(aio.pull_image(f"{stalling.address}/team/app:1", tls_verify=False))
        await asyncio.to_thread(stalling.stalls.wait, scaled(30))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    with StallingRegistry(registry.address) as stalling:
        asyncio.run(main(stalling))
    assert working_below(root) == []
    assert nothing_left(root)


def test_a_registry_that_sends_nothing_more_is_given_up(
    root: Path, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_SILENCE", scaled(2.0))
    with (
        StallingRegistry(registry.address) as stalling,
        pytest.raises(ImageError, match=r"cannot be pulled: nothing came for \d+ s, after \d+ bytes"),
    ):
        pulled(f"{stalling.address}/team/app:1")
    assert working_below(root) == []
    assert nothing_left(root)


def test_archives_of_docker_and_oci_are_imported_by_their_path(root: Path, app: Path, tmp_path: Path) -> None:
    for transport in ("docker-archive", "oci-archive"):
        file = tmp_path / f"{transport}.tar"
        tool("skopeo", "copy", "--quiet", f"oci:{app}", f"{transport}:{file}:app:1")
        image = vc.import_image(str(file), name=f"from/{transport}")
        assert image.references == (f"docker.io/from/{transport}:latest",)
        assert (image.entrypoint, image.work_dir) == (("/run",), "/w")


def test_an_image_without_a_name_is_used_by_its_digest(root: Path, app: Path) -> None:
    image = vc.import_image(f"oci:{app}:")
    assert image.references == ()
    vc.delete_image(image.digest[:20])
    assert nothing_left(root)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda top: str(top / "none"), "does not exist"),
        (lambda top: str(top), "is no OCI layout: it has no file oci-layout"),
        (lambda top: str(top / "text"), "is no archive; give one of docker save"),
        (lambda top: str(top / "empty.tar"), "is neither an archive of docker save nor an OCI archive"),
        (lambda top: f"docker://{top}", "has a colon; give TRANSPORT:PATH"),
        (lambda top: "", "is no OCI layout"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(
    make: object, complaint: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("text", encoding="ascii")
    (tmp_path / "empty.tar").write_bytes(layer(entry("a")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=complaint):
        vc.import_image(make(tmp_path))  # type: ignore[operator] # a function, as above


def test_a_layout_with_several_images_wants_one_of_them_named(root: Path, app: Path, layouts: Path) -> None:
    second = make_layout(layouts / "several", [layer(entry("second"))])
    index = json.loads((second / "index.json").read_text(encoding="ascii"))
    manifest = (app / "blobs" / manifest_digest(app).replace(":", "/")).read_bytes()
    for file in (app / "blobs/sha256").iterdir():
        (second / "blobs/sha256" / file.name).write_bytes(file.read_bytes())
    named = {**add_blob(second, manifest, "application/vnd.oci.image.manifest.v1+json")}
    named["annotations"] = {"org.opencontainers.image.ref.name": "app"}
    index["manifests"].append(named)
    (second / "index.json").write_text(json.dumps(index), encoding="ascii")
    with pytest.raises(ImageError, match="more than one image"):
        vc.import_image(str(second))
    assert vc.import_image(f"oci:{second}:app").digest == manifest_digest(app)
