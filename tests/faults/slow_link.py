"""A slow link: a TCP relay that hands everything on so much later.

    python -m tests.faults.slow_link SECONDS HOST PORT …

It listens on the same ports of 127.0.0.1. For kernels without netem. Every byte is late, and the
link stays as wide as it was.
"""

import asyncio
import sys
from contextlib import suppress


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    """Until the end of what comes in; then the other side hears of it, as late."""
    late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def write() -> None:
        while True:
            due, data = await late.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    writing = asyncio.create_task(write())
    with suppress(OSError):
        while data := await reader.read(65_536):
            late.put_nowait((loop.time() + delay_s, data))
    late.put_nowait((loop.time() + delay_s, b""))
    with suppress(OSError):
        await writing


async def serve(delay_s: float, host: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            pass_on(reader, far_writer, delay_s), pass_on(far_reader, writer, delay_s)
        )

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


async def main(delay_s: float, host: str, ports: list[int]) -> None:
    await asyncio.gather(*(serve(delay_s, host, port) for port in ports))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]]))
