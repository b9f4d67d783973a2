"""Log lines for machines: one JSON object each, whoever writes them."""

import json
import subprocess
import sys

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
