#!/usr/bin/env python3
"""A press that can be commanded: by OPC UA (asyncua) and by Modbus TCP (pymodbus). Every time that it does something stands in a journal.

OPC UA: the object `ns=2;s=PRESS` with the methods
- Move(order: String, speed: Double) -> place: Double. Does it, notes `order`, and answers.
- Refuse(order: String): is noted, and answers BadOutOfRange.
- Delay(order: String, seconds: Double): is noted, and answers after that time.
- Close(): sets `valve` to "closed".
and the variables `ns=2;s=setpoint` (Double, writable), `ns=2;s=valve` (String), `ns=2;s=door` (String, writable).

Modbus: holding registers 0 to 99 and coils 0 to 99, writable; every write is noted as `<address>=<values>`.

Journal: a line `opcua <method> <order>` or `modbus <address> <values>` for each action, on its way to the file before the answer.

Control: as the other simulators: after `pause` Modbus writes are done and noted, but not answered; `go` ends that.
"""

import argparse
import asyncio
import logging
import os
import sys

from asyncua import Server, ua, uamethod
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from control import Control


class Journal:
    """What was done. Written by write(2), so that a killed simulator has never done more than stands here."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.said = 0

    def note(self, *words):
        os.write(self._file, (" ".join(str(word) for word in words) + "\n").encode())
        self.said += 1

    def write(self):
        """Nothing waits."""


async def opcua(port, journal):
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:openfactory:press")
    press = await server.nodes.objects.add_object(ua.NodeId("PRESS", 2), ua.QualifiedName("PRESS", 2))
    values = {}
    for name, first in (("setpoint", 0.0), ("valve", "open"), ("door", "open")):
        values[name] = await press.add_variable(ua.NodeId(name, 2), ua.QualifiedName(name, 2), first)
        if name != "valve":
            await values[name].set_writable()

    @uamethod
    def move(_parent, order, speed):
        journal.note("opcua", "Move", order)
        return speed * 2

    @uamethod
    def refuse(_parent, order):
        journal.note("opcua", "Refuse", order)
        return ua.StatusCode(ua.StatusCodes.BadOutOfRange)

    @uamethod
    async def delay(_parent, order, seconds):
        journal.note("opcua", "Delay", order)
        await asyncio.sleep(seconds)

    @uamethod
    async def close(_parent):
        journal.note("opcua", "Close", "-")
        await values["valve"].write_value("closed")

    def argument(name, kind):
        return ua.Argument(Name=name, DataType=ua.NodeId(kind), ValueRank=-1, ArrayDimensions=[], Description=ua.LocalizedText(name))

    order, speed = argument("order", ua.ObjectIds.String), argument("speed", ua.ObjectIds.Double)
    seconds, place = argument("seconds", ua.ObjectIds.Double), argument("place", ua.ObjectIds.Double)
    for name, call, takes, gives in (
        ("Move", move, [order, speed], [place]),
        ("Refuse", refuse, [order], []),
        ("Delay", delay, [order, seconds], []),
        ("Close", close, [], []),
    ):
        await press.add_method(ua.NodeId(name, 2), ua.QualifiedName(name, 2), call, takes, gives)
    await server.start()
    return server


class Writes:
    """Notes what is written by Modbus."""

    def __init__(self, journal):
        self.journal, self.is_mute = journal, False

    async def look(self, function, _start, address, _count, _registers, values):
        if values is not None and function in (5, 6, 15, 16, 22):
            self.journal.note("modbus", address, ",".join(str(int(value)) for value in values))
            while self.is_mute:
                await asyncio.sleep(0.05)
        return None


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--opcua", type=int, required=True, help="TCP port")
    parser.add_argument("--modbus", type=int, required=True, help="TCP port")
    parser.add_argument("--journal", required=True)
    args = parser.parse_args()
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    journal, control = Journal(args.journal), Control(True)
    server = await opcua(args.opcua, journal)
    writes = Writes(journal)
    registers = SimData(0, values=[0] * 100, datatype=DataType.REGISTERS)
    device = SimDevice(id=0, simdata=[registers], action=writes.look)
    modbus = ModbusTcpServer(device, address=("127.0.0.1", args.modbus))
    await modbus.serve_forever(background=True)
    control.tell(ready=True)
    listening = asyncio.ensure_future(control.listen(journal))
    while not listening.done():
        writes.is_mute = not control.running.is_set()
        await asyncio.sleep(0.02)
    await modbus.shutdown()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
