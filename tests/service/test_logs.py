"""Log lines for machines: one JSON object each, whoever writes them; and what comes of one that cannot be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import logging, structlog
from service.logs import configure
from service.settings import Settings
configure(Settings(log_format="json"))
structlog.get_logger().info("ours", part=3)
logging.getLogger("a.library").warning("theirs %s", "too")
try:
    raise ValueError("why")
except ValueError:
    logging.getLogger("a.library").exception("broken")
logging.getLogger("turnstile.faststream").warning("Auto create topics is disabled. Make sure the topics exist.")
"""


def test_every_line_is_json() -> None:
    """Ours and those of libraries, with their level, logger and traceback; what tells nobody anything is left out."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [("ours", "info", None), ("theirs too", "warning", "a.library"), ("broken", "error", "a.library")] == [
        (line["event"], line["level"], line.get("logger")) for line in lines
    ]
    assert "ValueError: why" in lines[-1]["exception"]


UNWRITTEN = """
import logging, structlog
from service.logs import configure
from service.settings import Settings
configure(Settings())
for _ in range(3):
    structlog.get_logger().error("ours", part=3)
    logging.getLogger("a.library").error("theirs")
print("went on", flush=True)
"""


def test_a_line_that_cannot_be_written_harms_nobody() -> None:
    """Be the log's disk full or the reader of its pipe gone: what a line is about, such as a partition, goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full, os.fdopen(writer, "wb") as gone:
        for log in (full, gone):
            done = subprocess.run([sys.executable, "-c", UNWRITTEN], stdout=subprocess.PIPE, stderr=log, check=False)
            assert done.stdout == b"went on\n"
