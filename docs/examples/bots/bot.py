"""A bot in thirty lines: it posts how plans and batches begin and end.  bot.py NATS_URL WEBHOOK_URL."""

import asyncio
import json
import sys
import urllib.request

import nats


async def main(nats_url: str, webhook: str) -> None:
    begun = set()

    def post(text: str) -> None:
        wish = urllib.request.Request(webhook, json.dumps({"text": text}).encode())
        wish.add_header("Content-Type", "application/json")
        urllib.request.urlopen(wish, timeout=10).close()

    bus = await nats.connect(nats_url, max_reconnect_attempts=-1)
    progress = await bus.subscribe("brain.progress.plan.*")
    async for message in progress.messages:
        said = json.loads(message.data)
        if said["id"] not in begun:
            begun.add(said["id"])
            await asyncio.to_thread(post, f"{said['id']} begins")
        if said["final"]:
            await asyncio.to_thread(post, f"{said['id']} {said['status']}: {said['text']}")


asyncio.run(main(*sys.argv[1:]))
