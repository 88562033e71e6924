"""The same job for everybody: run /bin/true, and keep its exit code and its output."""

import subprocess
from typing import Any


def true() -> dict[str, Any]:
    """Run it."""
    done = subprocess.run(["/bin/true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return {"exit_code": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}
