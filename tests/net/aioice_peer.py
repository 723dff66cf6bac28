"""aioice behind the stdin/stdout protocol of ice_peer.c.

aioice_peer.py controlling|controlled [no-ipv4] [no-ipv6]
"""
import asyncio
import sys

from aioice import Candidate, Connection


def say(*words):
    print(*words, flush=True)


async def receive(connection):
    try:
        while True:
            say("data", (await connection.recv()).decode())
    except ConnectionError:
        say("disconnected")


async def connect(connection):
    try:
        await connection.connect()
    except ConnectionError as error:
        say("failed", error)
        return
    pair = connection._nominated[1]
    say("connected", pair.local_candidate.type, pair.remote_candidate.type,
        f"{pair.remote_addr[0]}:{pair.remote_addr[1]}")
    await receive(connection)


async def commands(connection):
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = []
    while line := (await reader.readline()).decode().strip():
        verb, _, rest = line.partition(" ")
        if verb == "remote":
            connection.remote_username, connection.remote_password = rest.split(" ")
            tasks.append(asyncio.create_task(connect(connection)))
        elif verb == "candidate":
            await connection.add_remote_candidate(Candidate.from_sdp(rest))
        elif verb == "send":
            await connection.send(rest.encode())
    await connection.close()


async def main():
    connection = Connection(ice_controlling=sys.argv[1] == "controlling",
                            use_ipv4="no-ipv4" not in sys.argv, use_ipv6="no-ipv6" not in sys.argv)
    await connection.gather_candidates()
    say("credentials", connection.local_username, connection.local_password)
    for candidate in connection.local_candidates:
        say("candidate", candidate.to_sdp())
    await commands(connection)


asyncio.run(main())
