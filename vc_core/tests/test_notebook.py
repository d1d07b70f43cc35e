"""How pods and results look in a notebook and as text."""

from __future__ import annotations

from collections.abc import Callable

import vc_core as vc
from vc_core import aio
from vc_core.client.processes import Running


def test_a_pod_in_a_notebook_shows_its_status(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.run_pod(mock_config())
    try:
        for one in (pod, aio.Pod(pod.id), pod.status()):
            html = one._repr_html_()
            assert all(part in html for part in ("pod p1", "<td>running</td>", "<td>mock</td>", "<td>c1</td>"))
        assert "container c1" in pod.container("c1")._repr_html_()
    finally:
        pod.delete(force=True)


def test_a_pod_in_a_notebook_that_is_gone_shows_that() -> None:
    assert "no pod has the id &#x27;gone&#x27;" in vc.Pod("gone")._repr_html_()


def test_nothing_that_a_guest_wrote_is_markup_in_a_notebook() -> None:
    html = vc.ExecResult(1, b"<script>\x1b[2J\n\tx", "\u202e".encode())._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;\\x1b[2J\n        x" in html
    assert "\u202e" not in html
    reason = vc.PodStatus(id="p", state=vc.State.STOPPED, reason="<b>")._repr_html_()
    assert "&lt;b&gt;" in reason


def test_the_text_of_a_result_shows_the_first_part_of_a_long_output() -> None:
    assert repr(vc.ExecResult(0, b"out")) == "ExecResult(exit_code=0, stdout=b'out', stderr=b'', truncated=False)"
    text = repr(vc.ExecResult(0, b"x" * 10**6))
    assert text.startswith("ExecResult(exit_code=0, stdout=<1000000 bytes: b'xxx")
    assert len(text) < 1200
    assert "1000000 bytes in all" in vc.ExecResult(0, b"x" * 10**6)._repr_html_()


def test_the_text_of_a_status_leaves_out_what_it_has_by_default() -> None:
    status = vc.PodStatus(id="p", state=vc.State.READY, hypervisor="mock")
    assert repr(status) == "PodStatus(id='p', state=<State.READY: 'ready'>, hypervisor='mock')"
    assert repr(vc.ContainerStatus(id="c", state=vc.State.READY)) == (
        "ContainerStatus(id='c', state=<State.READY: 'ready'>)"
    )


def test_the_text_of_a_process_names_its_command_and_what_became_of_it() -> None:
    running = Running("'sleep' in p/c", None, None, None, None)  # type: ignore[arg-type] # no connection is used
    assert repr(vc.Process(running)) == "<Process 'sleep' in p/c, running>"
