"""Copies of files, tested if the agent claims the capability COPY."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

from vc_core.config.container import Cmd
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.driver.copies import GuestCopy
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest, Way
from vc_core.testing.contract.agent.probes import DATA, same
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO

_NEEDED = (AgentCapability.EXEC, AgentCapability.STREAMS, AgentCapability.COPY)


def _archive(*entries: tuple[str, bytes, bytes, str]) -> bytes:
    """Return an archive of entries: name, type, contents and target."""
    blocks = b""
    for name, kind, content, target in entries:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname, info.mode = kind, len(content), target, 0o750
        info.uid, info.gid = 1000, 1001
        blocks += info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    return blocks + bytes(2 * tarfile.BLOCKSIZE)


class Copies(AgentFixtures):
    """Copies of files into containers and out of them."""

    async def _copy(self, agent: Agent, copy: GuestCopy, data: bytes = b"") -> tuple[int, RecordedIO]:
        recorded = RecordedIO(data)
        process = await agent.copy("c1", copy, recorded, TIMEOUT)
        return await self._exit_code(agent, process, f"a copy of {copy.path!r}"), recorded

    def test_a_copied_tree_comes_back_byte_for_byte_with_modes_owners_and_links(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        long = "/".join(["n" * 80] * 3)
        entries = [
            (".", tarfile.DIRTYPE, b"", ""),
            *((long[: 80 + 81 * level], tarfile.DIRTYPE, b"", "") for level in range(3)),
            (f"{long}/file", tarfile.REGTYPE, DATA, ""),
            (f"{long}/link", tarfile.SYMTYPE, b"", "file"),
        ]

        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                code, io_in = await self._copy(agent, GuestCopy("/tmp/copied", True, "name"), _archive(*entries))
                assert code == 0, f"a copy into a container ended with {code} and {bytes(io_in.stderr)[:200]!r}"
                shown = await self._output(agent, Way.FURTHER, (*self.commands.show, f"/tmp/copied/{long}/link"))
                same("a file that was copied into the container", shown, DATA)
                code, io_out = await self._copy(agent, GuestCopy("/tmp/copied"))
                assert code == 0, f"a copy out of a container ended with {code} and {bytes(io_out.stderr)[:200]!r}"
                with tarfile.open(fileobj=io.BytesIO(bytes(io_out.stdout))) as read:
                    found = {one.name: (one.type, one.mode, one.uid, one.gid, one.linkname) for one in read}
                    wanted = {name: (kind, 0o750, 1000, 1001, target) for name, kind, _, target in entries}
                    del wanted[f"{long}/link"], found[f"{long}/link"]  # links have no mode of their own
                    assert found == wanted
                    contents = read.extractfile(f"{long}/file")
                    assert contents is not None
                    same("a file that was copied out of the container", contents.read(), DATA)

        run(main())

    def test_no_name_and_no_link_of_an_archive_leads_a_copy_out_of_its_directory(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        hostile = (
            [("../stray", tarfile.REGTYPE, b"stray", "")],
            [("/tmp/stray", tarfile.REGTYPE, b"stray", "")],
            [("l", tarfile.SYMTYPE, b"", ".."), ("l/stray", tarfile.REGTYPE, b"stray", "")],
        )

        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for entries in hostile:
                    code, recorded = await self._copy(agent, GuestCopy("/tmp/place", True), _archive(*entries))
                    reason = bytes(recorded.stderr)
                    assert code != 0, f"a copy of {entries!r} succeeded"
                    assert reason.count(b"\n") == 1, f"a copy that failed gave {reason!r} instead of a sentence"
                    shown = await self._run(
                        agent, Way.FURTHER, Cmd(args=(*self.commands.show, "/tmp/stray")), RecordedIO()
                    )
                    assert shown != 0, f"a copy of {entries!r} made a file outside of its directory"

        run(main())

    def test_a_copy_of_what_is_not_there_ends_with_a_reason(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                code, recorded = await self._copy(agent, GuestCopy("/no/such/file"))
                assert code != 0
                assert recorded.stderr.strip(), "a copy that failed gave no reason"

        run(main())
