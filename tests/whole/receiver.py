"""A chat that takes messages by a webhook."""

import http.server
import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

Taken = list[tuple[str, str]]


@contextmanager
def receiving(field: str = "text", moods: Sequence[int] = ()) -> Generator[tuple[str, Taken]]:
    """Give an address that takes messages, and what was taken: each text with its key.

    First it answers with these statuses, and takes nothing.
    """
    taken: Taken = []
    left = list(moods)

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            mood = left.pop(0) if left else 200
            if mood == 200:
                taken.append((body[field], self.headers.get("Idempotency-Key", "")))
            self.send_response(mood)
            if mood == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/services/hush", taken
        finally:
            server.shutdown()
            thread.join()
