import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_agent_hyperstart import replies, requests, translate
from vc_agent_hyperstart.dialect import Dialect
from vc_core.driver import Cmd, EnvVar
from vc_core.errors import AgentProtocolError

#: What may be in an argument: anything but NUL and lone surrogates.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
names = text.filter(lambda name: name and "=" not in name)


@pytest.mark.promise("T18")
@given(args=st.lists(text, min_size=1, max_size=5), envs=st.lists(st.tuples(names, text), max_size=3), work_dir=text)
def test_every_argument_and_variable_is_in_the_request_character_for_character(
    args: list[str], envs: list[tuple[str, str]], work_dir: str
) -> None:
    cmd = Cmd(args=args, envs=[EnvVar(*env) for env in envs], work_dir=work_dir)
    spec = translate.process(Dialect(4242), cmd, (1, 2), None, has_input=True)
    process = json.loads(requests.ExecCommand("c1", spec).encode())["process"]
    assert process["args"] == args
    assert [(env["env"], env["value"]) for env in process.get("envs", [])] == envs
    assert process["workdir"] == work_dir


def test_an_empty_list_of_containers_is_sent_because_an_original_wants_it() -> None:
    pod = json.loads(requests.StartPod("p1", (), "hyperShared").encode())
    assert pod == {"hostname": "p1", "containers": [], "shareDir": "hyperShared"}


REPORT = {
    "container": "c1", "init": True, "stdio": 1, "stderr": 2, "terminal": False, "ended": False, "status": 0,
    "received": 0, "consumed": 0, "closed": False, "stdout_from": 0, "stderr_from": 0,
}  # fmt: skip


def hello_reply(**changes: Any) -> bytes:
    return json.dumps({"version": 1, "features": [], "processes": [REPORT | changes]}).encode()


def test_a_reply_to_hello_may_have_unknown_keys() -> None:
    reply = replies.decode("reply", hello_reply(new="thing"), replies.HelloReply)
    assert reply.processes[0].names() == replies.ProcessNames("c1", True, 1, 2, False)


@pytest.mark.parametrize(
    "changes",
    [{"stdio": 0}, {"stdio": 2**53}, {"stdio": -1}, {"stdio": "1"}, {"stderr": -1}, {"received": -1},
     {"stdout_from": 2**63}, {"stdout_from": 1.5}, {"container": None}, {"init": 1}],
)  # fmt: skip
def test_a_report_with_an_impossible_value_is_a_protocol_error(changes: dict[str, Any]) -> None:
    with pytest.raises(AgentProtocolError, match="reply to HELLO that is not valid"):
        replies.decode("reply to HELLO", hello_reply(**changes), replies.HelloReply)


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b'{"version": 1}'])
def test_a_payload_that_is_no_reply_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(AgentProtocolError):
        replies.decode("reply", payload, replies.HelloReply)
