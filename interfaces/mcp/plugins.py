"""Tools and resources of plugins: those that the caller may use, as they are at this moment."""

from typing import Any, cast

from interfaces.mcp.table import TOOLS
from interfaces.mcp.tools import NAME, Call

Row = dict[str, Any]


async def offered(call: Call) -> list[Row]:
    """The tools of plugins that this caller may use: `{name, plugin, description, schema, ...}`."""
    found = (await call.request("plugin", "tools", token=call.token))["tools"]
    return [each for each in found if each["name"] not in TOOLS and NAME.fullmatch(each["name"])]


async def use(call: Call, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call one; an answer that is no object stands under `result`."""
    body: Row = {"name": name, "arguments": arguments, "token": call.token}
    answer = (await call.engine.request("plugin", "call", **body))["result"]
    return cast("Row", answer) if isinstance(answer, dict) else {"result": answer}


def schema(given: dict[str, Any]) -> dict[str, Any]:
    """A schema of arguments as hosts take it: an object, not a reference to one."""
    parts: dict[str, Any] = given.get("$defs", {})
    kept = {key: value for key, value in given.items() if key not in ("$ref", "$defs")}
    top = parts.get(str(given.get("$ref", "")).rpartition("/")[2], {})
    inner = {key: value for key, value in {**top, **kept}.items() if key != "title"}
    return {"type": "object", **inner, **({"$defs": parts} if parts else {})}
