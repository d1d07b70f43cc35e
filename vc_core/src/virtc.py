"""What the script ``virtc`` imports: so little that Ctrl-C while Python loads the command prints no traceback.

It is no part of ``vc_core``, whose own ``__init__`` would be imported first.
"""

import sys
from types import TracebackType


def _silence_interrupt(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print nothing of an interrupt, after which Python ends by SIGINT, as any interrupted program."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _silence_interrupt


def main() -> None:
    """Run the command line of this process; the entry point of ``virtc``."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an import can swallow the exception of Python's own handler
    from vc_core.cli.entry import main

    main()
