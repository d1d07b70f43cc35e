"""Parts of the guest agent by themselves, under the sanitizers: failures that a guest in a VM cannot be brought to."""

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SOURCES = [path for path in (HERE.parents[1] / "guest").glob("*.c") if path.stem != "main"]
TIMEOUT = 60


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The function that runs one part and returns what it printed."""
    program = tmp_path_factory.mktemp("parts") / "parts"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wl,--wrap=reboot"]
    flags += ["-I", str(SOURCES[0].parent)]
    subprocess.run(["gcc", *flags, "-o", program, HERE / "parts.c", *SOURCES], check=True)

    def run(part: str) -> bytes:
        result = subprocess.run([program, part], capture_output=True, timeout=TIMEOUT)
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout

    return run


@pytest.mark.root
def test_a_full_root_file_system_fails_the_resolver_with_its_reason(parts: Callable[[str], bytes]) -> None:
    assert parts("resolver") == b"failed: /etc/resolv.conf: No space left on device\nno file\n"


def test_an_event_for_which_the_control_channel_has_no_room_is_left_out_whole(parts: Callable[[str], bytes]) -> None:
    data = parts("frames")
    codes = []
    while data:
        code, length = struct.unpack(">II", data[:8])
        assert len(data) >= length, "a header without its payload"
        codes.append(code)
        if length > 8:
            assert json.loads(data[8:length])["event"] == "finished"
        data = data[length:]
    ready, finished = 8, 23
    assert codes[:2] == [ready, finished]
    assert set(codes[1:]) == {finished}
    assert len(codes) > 10_000


def test_a_process_that_an_undone_start_forgot_is_not_touched_again(parts: Callable[[str], bytes]) -> None:
    assert parts("undone") == b"all are forgotten\n"
