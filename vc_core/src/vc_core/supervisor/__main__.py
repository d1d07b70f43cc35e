"""Where ``python -m vc_core.supervisor`` begins: what must be so before any other module is imported."""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # what is imported stays, so the collector would search it for garbage in vain
    from vc_core.supervisor.process import end, main

    end(main(sys.argv[1:]))
