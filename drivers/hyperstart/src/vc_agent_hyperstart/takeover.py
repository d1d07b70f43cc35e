"""Processes that a former host started, until the core adopts them."""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence

from vc_agent_hyperstart.codec import StreamControlType
from vc_agent_hyperstart.connection import Connection
from vc_agent_hyperstart.guest_process import DiscardIO, GuestProcess
from vc_agent_hyperstart.process_table import TIMEOUT, ProcessTable, no_process, stdio_of
from vc_agent_hyperstart.replies import ProcessNames, ProcessReport
from vc_agent_hyperstart.requests import Signal
from vc_core.driver import GuestProcessId, ProcessIO


class Takeover:
    """Collects the processes that run when the host connects.

    Those of ``exec`` are killed, because no client waits for them any more.
    """

    def __init__(self, connection: Connection, processes: ProcessTable) -> None:
        self._connection = connection
        self._processes = processes
        #: First processes of containers that were not adopted yet, with the guest's report if it sends one.
        self._orphans: dict[int, ProcessReport | None] = {}

    async def collect(self, saved: Sequence[ProcessNames], reports: Sequence[ProcessReport]) -> None:
        """Add the processes that the guest reports, or for an original those that were saved.

        Called once the connection is open. Raises AgentError.
        """
        streams, dialect = self._connection.streams, self._connection.dialect
        if not dialect.ours:
            for names in saved:
                self._add(streams.add(names, status_by_event=dialect.by_id), None)
        for report in reports:
            process = streams.add(report.names(), stdout_from=report.stdout_from, stderr_from=report.stderr_from)
            if not (report.init or report.ended):
                await self._connection.call(Signal(report.stdio, signals.SIGKILL), TIMEOUT)
            self._add(process, report)

    def _add(self, process: GuestProcess, report: ProcessReport | None) -> None:
        if process.names.init:
            self._orphans[process.names.stdio] = report
            self._processes.first[process.names.container] = process
        else:
            self._adopt(process, report, DiscardIO())

    def adopt(self, process: GuestProcessId, io: ProcessIO) -> None:
        """Attach ``io`` to the first process of a container. Raises AgentError for one that was not collected."""
        self._connection.check()
        stdio = stdio_of(process)
        running = self._connection.streams.processes.get(stdio)
        if stdio not in self._orphans or running is None or running.names.container != process.container_id:
            raise no_process(process)
        self._adopt(running, self._orphans.pop(stdio), io)

    def _adopt(self, process: GuestProcess, report: ProcessReport | None, io: ProcessIO) -> None:
        if report is None:
            process.attach(io, self._processes.input(process))
            return
        over = report.closed or report.ended
        process.attach(io, None if over else self._processes.input(process, report.received, report.consumed))
        for output, taken in zip((process.stdout, process.stderr), io.taken or (0, 0), strict=True):
            output.skip_to(taken)
        control = self._connection.streams.control
        # stdio last: once that stream is resumed the guest sends the process' end.
        if report.stderr:
            control(StreamControlType.RESUME, report.stderr, process.stderr.position, at_once=False)
        control(StreamControlType.RESUME, report.stdio, process.stdout.position, at_once=True)
