"""Where ``vc-runtime`` begins: what must be so before any other module is imported."""

import gc


def main() -> int:
    """Perform the verb of the command line; return the exit code."""
    gc.disable()  # a short life, in which nearly all that is made is loaded modules
    from vc_runtime import main

    return main.main()


if __name__ == "__main__":
    main()
