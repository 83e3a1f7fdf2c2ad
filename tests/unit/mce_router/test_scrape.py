import asyncio
import itertools

from mce_api.routes import RouteTable, Target
from mce_router.scrape import Scraper


async def test_when_time_does_not_do_for_all_pages_the_small_ones_are_read() -> None:
    pages = [b"".join(b"m%d 1\n" % number for number in range(1000)), b"up 1\n"]

    async def serve(page: bytes) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(page) + page)
            writer.close()

        return await asyncio.start_server(answer, "127.0.0.1", 0)

    servers = [await serve(page) for page in pages]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    targets = tuple(Target(name=name, port=port) for name, port in zip(("large", "small"), ports, strict=True))
    ticks = itertools.count()
    scraper = Scraper(lambda: next(ticks) / 100)
    text = (await scraper.page(RouteTable(namespace="n", endpoint="e", mode="Direct", targets=targets))).decode()
    for server in servers:
        server.close()
    labels = 'namespace="n",endpoint="e",variant="AllTraffic",container='
    assert f'mce_container_scrape_success{{{labels}"large"}} 0.0\n' in text
    assert f'mce_container_scrape_success{{{labels}"small"}} 1.0\n' in text
    assert f'\nup{{{labels}"small"}} 1.0\n' in text
    assert "m1{" not in text
