"""The plug-in of pytest: its fixtures make pods and delete them, its marker skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vc_core as vc

pytest_plugins = ["pytester"]

CONFIG = """
import pytest
import vc_core as vc

@pytest.fixture(scope="session")
def pod_config():
    container = vc.ContainerConfig(id="main", cmd=vc.Cmd(args=["sleep", "1"]))
    return vc.PodConfig(id="chosen", hypervisor_type="mock", agent_type="noop", containers=[container])
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return the tests of a user, whose pods need no virtual machine."""
    pytester.makeconftest(CONFIG)
    return pytester


def test_pod_is_a_running_pod_that_is_deleted_at_the_end_of_its_test(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(pod): assert pod.status().state == 'running'")
    project.runpytest_inprocess().assert_outcomes(passed=1)
    assert vc.list_pods() == []


def test_pods_of_a_test_that_fails_are_deleted(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(pod, pod_factory):\n    pod_factory()\n    assert False")
    project.runpytest_inprocess().assert_outcomes(failed=1)
    assert vc.list_pods() == []


def test_a_pod_that_its_test_has_deleted_is_no_error(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(pod): pod.delete(force=True)")
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_the_factory_makes_pods_with_ids_of_their_own_and_with_changed_fields(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import vc_core as vc

        def test_it(pod_factory):
            first, second, named = pod_factory(), pod_factory(containers=[]), pod_factory(id="named")
            assert len({first.id, second.id, named.id, "chosen"}) == 4
            assert (len(first.status().containers), len(second.status().containers)) == (1, 0)
            assert named.id == "named"

        def test_another_configuration(pod_factory):
            other = vc.PodConfig(hypervisor_type="mock", agent_type="noop")
            assert pod_factory(other).status().containers == ()
    """)
    project.runpytest_inprocess().assert_outcomes(passed=2)
    assert vc.list_pods() == []


def test_the_scope_of_the_fixtures_is_a_setting(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nvc_pod_scope = module")
    project.makepyfile("ids = set()\ndef test_1(pod): ids.add(pod.id)\ndef test_2(pod): assert ids == {pod.id}")
    project.runpytest_inprocess().assert_outcomes(passed=2)
    assert vc.list_pods() == []


def test_a_scope_that_does_not_exist_is_refused_in_one_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-o", "vc_pod_scope=modul")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.stderr.lines if line] == [
        "ERROR: the setting vc_pod_scope is 'modul'; give one of function, class, module, package, session"
    ]


def test_the_pod_file_of_the_settings_configures_the_pod(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nvc_pod_file = pods/mock.toml")
    pytester.mkdir("pods").joinpath("mock.toml").write_text(
        'hypervisor_type = "mock"\nagent_type = "noop"\n', encoding="utf-8"
    )
    pytester.makepyfile("def test_it(pod): assert pod.inspect().hypervisor_type == 'mock'")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_without_a_configuration_one_sentence_says_how_to_give_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(pod): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture 'pod' has no configuration; define the fixture pod_config*"])


def test_the_report_of_a_failed_test_shows_what_became_of_its_containers(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(pod):\n    pod.stop()\n    assert False")
    project.runpytest_inprocess().stdout.re_match_lines(
        [r"-+ log of container pytest-.*/main, stopped, exit code 143 -+", r"\(nothing\)"]
    )


def test_the_report_of_a_pod_that_could_not_be_made_shows_its_error_alone(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(pod_factory): pod_factory(hypervisor_type='absent')")
    result = project.runpytest_inprocess()
    result.stdout.fnmatch_lines(["E*DriverNotFoundError: there is no hypervisor driver 'absent'*"])
    result.stdout.no_fnmatch_line("*no log can be shown*")


def test_pods_that_a_killed_session_left_are_deleted_by_the_next_one(project: pytest.Pytester) -> None:
    project.makepyfile("import os\ndef test_it(pod): os._exit(9)")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True)
    assert done.returncode == 9, done.stdout
    left = [one.id for one in vc.list_pods()]
    assert len(left) == 1
    config = vc.PodConfig(id=f"pytest-{os.getpid()}-0-name", hypervisor_type="mock", agent_type="noop")
    mine = vc.create_pod(config)
    project.makepyfile("def test_it(pod): pass")
    project.runpytest_inprocess().assert_outcomes(passed=1)
    assert [one.id for one in vc.list_pods()] == [mine.id], "a pod that is not of a session is not touched"


def test_needs_vm_skips_with_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.needs_vm("absent")
        def test_absent(): pass

        @pytest.mark.needs_vm("mock")
        def test_mock(): pass

        @pytest.mark.needs_vm(["mock"])
        def test_list(): pass
    """)
    result = pytester.runpytest_inprocess("-rs", "--strict-markers")
    result.assert_outcomes(passed=1, skipped=1, errors=1)
    result.stdout.fnmatch_lines(["needs_vm has ['mock']; give names of hypervisors"])
    result.stdout.fnmatch_lines(["SKIPPED*no VM can run here: there is no hypervisor driver 'absent'*"])


def test_needs_vm_asks_the_hypervisor_that_pods_have_by_default(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[pod]\nhypervisor = "absent"\n', encoding="utf-8")
    monkeypatch.setenv("VIRTCONTAINERS_CONFIG", str(settings))
    pytester.makepyfile("import pytest\n@pytest.mark.needs_vm\ndef test_it(): pass")
    pytester.runpytest_inprocess().assert_outcomes(skipped=1)


def test_pytest_starts_without_the_rest_of_the_core(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys

        def test_it():
            found = {name for name in sys.modules if name.partition(".")[0] == "vc_core"}
            assert found == {"vc_core", "vc_core.pytest"}
    """)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
