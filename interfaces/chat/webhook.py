"""Any chat that takes a message by a POST of JSON.  Nothing can be changed there, and nothing heard."""

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence

import msgspec

from events.errors import Validation
from interfaces import settings
from interfaces.chat.network import Away, Denied, Heard

WITHIN_SECONDS = 10.0
BUSY = 429


class Webhook:
    """The address of the settings."""

    name = "webhook"
    edits = False
    hears = False

    def __init__(self, given: settings.Hook) -> None:
        """Take the settings; `Validation` when one is missing."""
        if not given.url:
            raise Validation("chat.webhook.url is not set", field="chat.webhook.url")
        self._url, self._field = given.url, given.field

    async def say(self, text: str, key: str) -> str:
        """Post a text; a network that looks at `Idempotency-Key` takes it once."""
        body = msgspec.json.encode({self._field: text})
        await asyncio.to_thread(self._post, body, key)
        return key

    async def edit(self, message: str, text: str) -> None:
        """Refuse: it cannot be done."""
        raise Denied(f"{message} cannot be changed to {text!r} by a webhook")

    async def heard(self, since: str) -> tuple[Sequence[Heard], str]:
        """Refuse: nobody can be heard."""
        raise Denied(f"a webhook hears nothing, neither from {since!r} on nor before")

    async def close(self) -> None:
        """There is nothing to close: each POST is a connection of its own."""

    def _post(self, body: bytes, key: str) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 -- the scheme was checked
        # Errors are told without their text: the address in it is a secret.
        try:
            with urllib.request.urlopen(request, timeout=WITHIN_SECONDS) as answer:  # noqa: S310 -- the scheme was checked
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                later = error.headers.get("Retry-After", "")
            if error.code == BUSY or error.code >= 500:
                seconds = float(later) if later.isdecimal() else None
                raise Away(f"the webhook answers {error.code}", seconds) from None
            raise Denied(f"the webhook answers {error.code}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"the webhook does not answer ({type(error).__name__})") from None
