"""What is stored of an output: how far it reaches, and how a file is brought up to it."""

import json
import os
from pathlib import Path

from bus import streams
from bus.bridge import Bridge
from events.errors import NotFound, Unavailable

OFFSET, TIME, ATTEMPT, END = "Brain-Offset", "Brain-Time", "Brain-Attempt", "Brain-End"
"""Headers of a piece of output."""


async def fill(bridge: Bridge, subject: str, path: Path) -> None:
    """Append to a file what is stored beyond its end; what is not stored any more stays a gap of zeros."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size, seq = os.fstat(fd).st_size, 1
        while True:
            ask = json.dumps({"seq": seq, "next_by_subj": subject}).encode()
            message = await bridge.request(f"$JS.API.DIRECT.GET.{streams.OUTPUT}", ask)
            headers = message.headers or {}
            if headers.get("Status") == "404":
                return
            if headers.get("Status") is not None:
                raise Unavailable(f"{subject} cannot be read: {headers.get('Description', '')}")
            seq, offset = int(headers["Nats-Sequence"]) + 1, int(headers.get(OFFSET, "0"))
            end = offset + len(message.data)
            if end > size:
                begin = max(offset, size)
                os.pwrite(fd, message.data[begin - offset :], begin)
                size = end
    finally:
        os.close(fd)


async def reach(bridge: Bridge, subject: str) -> int:
    """Say where the last stored piece of an output ends; 0 when nothing is stored."""
    try:
        headers, size = await _last(bridge, subject)
    except NotFound:
        return 0
    return int(headers.get(END) or int(headers.get(OFFSET, "0")) + size)


async def _last(bridge: Bridge, subject: str) -> tuple[dict[str, str], int]:
    message = await bridge.request(f"$JS.API.DIRECT.GET.{streams.OUTPUT}.{subject}")
    headers = message.headers or {}
    match headers.get("Status"):
        case None:
            return headers, len(message.data)
        case "404":
            raise NotFound(f"nothing is stored of {subject}")
        case status:
            raise Unavailable(f"{subject} cannot be read: {status} {headers.get('Description', '')}")
