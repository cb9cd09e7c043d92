#!/usr/bin/env python3
"""An OPC UA server made of asyncua, whose variables count up, and a journal of every value that they took.

Assets are OPCUA-001, OPCUA-002, …; variable i of an asset has the node id `ns=2;s=<asset>.t<i>` and the browse path
`0:Root/0:Objects/2:<asset>/2:t<i>`. Every value stands once: a lost, repeated or swapped one is visible.
"""

import argparse
import asyncio
import logging
from datetime import datetime, timedelta, timezone

from asyncua import Server, ua

from control import Control, Journal

# Variable i has type i modulo 4: what changes is a counter in each of them.
TYPES = [
    (ua.VariantType.Double, float),
    (ua.VariantType.Int64, int),
    (ua.VariantType.UInt32, int),
    (ua.VariantType.String, lambda n: f"n{n}"),
]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# How many values are said between two looks at the clock: small enough that publishing keeps its rhythm.
TICK = 0.02


class Tag:
    def __init__(self, server, asset, index, count):
        self.server, self.asset, self.item, self.count = server, asset, f"t{index}", count
        self.kind, self.convert = TYPES[index % len(TYPES)]
        self.node = ua.NodeId(f"{asset}.{self.item}", 2)

    def value(self, now_ms):
        stamp = (EPOCH + timedelta(milliseconds=now_ms)).replace(tzinfo=timezone.utc)
        return ua.DataValue(ua.Variant(self.convert(self.count), self.kind), SourceTimestamp=stamp, ServerTimestamp=stamp)


def now_ms():
    return int(datetime.now(timezone.utc).timestamp() * 1000)


async def serve(port, assets, args, journal):
    """One server with its assets; returns it with its tags."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:openfactory:simulator")
    tags = []
    for asset in assets:
        folder = await server.nodes.objects.add_object(ua.NodeId(asset, 2), ua.QualifiedName(asset, 2))
        for index in range(args.variables):
            tag = Tag(server, asset, index, args.first)
            await folder.add_variable(tag.node, ua.QualifiedName(tag.item, 2), tag.convert(tag.count), tag.kind)
            at = now_ms()
            journal.note(asset, tag.item, tag.count, at)
            await server.write_attribute_value(tag.node, tag.value(at))
            tags.append(tag)
    journal.write()
    await server.start()
    return server, tags


async def change(tags, rate, control, journal):
    """Moves all tags on, one after the other, at `rate` changes a second in total."""
    loop = asyncio.get_running_loop()
    place = 0
    while True:
        await control.running.wait()
        started, said = loop.time(), 0
        while control.running.is_set():
            due = min(int((loop.time() - started) * rate) - said, max(1, int(rate * 5 * TICK)))
            batch = []
            at = now_ms()
            for _ in range(due):
                tag = tags[place]
                place = (place + 1) % len(tags)
                tag.count += 1
                journal.note(tag.asset, tag.item, tag.count, at)
                batch.append((tag, tag.value(at)))
            journal.write()
            for tag, value in batch:
                await tag.server.write_attribute_value(tag.node, value)
            if loop.time() - started - said / rate > 1.0:
                # This machine cannot keep the rate: go on from here instead of making up for it in a burst.
                started, said = loop.time(), 0
            else:
                said += len(batch)
            await asyncio.sleep(TICK)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ports", required=True, help="a server on each, separated by commas")
    parser.add_argument("--devices", type=int, default=1, help="assets, spread over the servers in turn")
    parser.add_argument("--first-device", type=int, default=1, help="number of the first asset")
    parser.add_argument("--variables", type=int, default=10, help="of each asset")
    parser.add_argument("--rate", type=float, default=100, help="changes a second of all variables together")
    parser.add_argument("--first", type=int, default=0, help="value of every variable at the start: a restarted device goes on above")
    parser.add_argument("--journal", required=True)
    parser.add_argument("--running", action="store_true", help="do not wait for `go`")
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)

    journal, control = Journal(args.journal), Control(args.running)
    ports = [int(port) for port in args.ports.split(",")]
    names = [f"OPCUA-{number:03}" for number in range(args.first_device, args.first_device + args.devices)]
    servers, tags = [], []
    for index, port in enumerate(ports):
        server, more = await serve(port, names[index::len(ports)], args, journal)
        servers.append(server)
        tags.extend(more)
    control.tell(ready=True, assets=names)
    changing = asyncio.create_task(change(tags, args.rate, control, journal))
    listening = asyncio.create_task(control.listen(journal))
    done, _ = await asyncio.wait([changing, listening], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    changing.cancel()
    for server in servers:
        await server.stop()


asyncio.run(main())
