# A server on the loopback device, and its clients in the same loop: 3,200 requests over 8 connections.
import asyncio
import json

CONNECTIONS = 8
REQUESTS = 400  # of each connection


async def serve(reader, writer):
    while line := await reader.readline():
        request = json.loads(line)
        answer = {"id": request["id"], "items": [{"n": n, "text": "x" * 40} for n in range(request["items"])]}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    writer.close()


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    for i in range(REQUESTS):
        writer.write(json.dumps({"id": i, "items": 1 + i % 50}).encode() + b"\n")
        await reader.readline()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port) for _ in range(CONNECTIONS)))
    server.close()


asyncio.run(main())
