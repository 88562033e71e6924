"""The door for agents: an MCP server named `brain`, over standard input and output and over HTTP.

The tools are plain functions over the facade (`tools` collects them); `server` is the only file beside
`tasks` that knows the SDK, which takes a second to read and is read only when somebody comes through this
door.
"""
