"""Where the `turnstile` command begins: with little imported, so that Ctrl-C is one from the first moment on."""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; whatever it is given or denied by its caller, it has its three standard streams."""
    _have_streams()
    try:
        from service.cli.main import main as run  # noqa: PLC0415 - it imports the service, and takes a moment

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _have_streams() -> None:
    """Open what is closed of standard input, output and error: else the next socket would be one of them."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error's number
        pass
    os.close(opened)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open for good
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
