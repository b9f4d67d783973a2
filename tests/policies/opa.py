"""A real OPA, built once from its Go module; `python3 tests/policies/opa.py` builds it, with nothing installed."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

VERSION = "v1.22.2"
MODULE = f"github.com/open-policy-agent/opa@{VERSION}"
BUILT = Path.home() / ".cache" / "turnstile" / "go" / f"opa-{VERSION}"
GO_HOME = Path("/usr/local/go/bin/go")
BUNDLE = Path(__file__).with_name("bundle")
HOST = "127.0.0.1"
START_SECONDS = 30.0


def opa() -> Path | None:
    """Return the program, built where Go is and it is not; None where neither is. Who comes second waits."""
    found = BUILT / "opa"
    go = shutil.which("go") or (str(GO_HOME) if GO_HOME.exists() else None)
    if go is None:
        return found if found.exists() else None
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            environment = os.environ | {"GOBIN": str(BUILT), "CGO_ENABLED": "0"}
            subprocess.run([go, "install", "-trimpath", "-ldflags", "-s -w", MODULE], env=environment, check=False)
    return found if found.exists() else None


@contextmanager
def serving(program: Path, log: Path) -> Iterator[str]:
    """Run it on the policies beside this file, as a bundle, and give its address."""
    with socket() as probe:
        probe.bind((HOST, 0))
        address = f"{HOST}:{probe.getsockname()[1]}"
    words = ["run", "--server", "--addr", address, "--skip-version-check", "--log-level", "error"]
    with log.open("ab") as out:
        server = subprocess.Popen([str(program), *words, "--bundle", str(BUNDLE)], stdout=out, stderr=out)
    try:
        _wait(f"http://{address}/health", server, log)
        yield f"http://{address}"
    finally:
        server.kill()
        server.wait()


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            build_opener(ProxyHandler({})).open(url, timeout=1).close()
        except (URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"OPA does not answer: {log.read_text()}")


if __name__ == "__main__":
    sys.exit(0 if opa() is not None else 1)
