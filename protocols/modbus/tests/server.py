"""A Modbus device for the tests, made of pymodbus: it counts what was written into it, and answers late on command.

Prints "ready <port>", or "ready <path>" of a serial line, once it listens. Commands come by standard input, one a line; each is answered by one line.
"""

import argparse
import asyncio
import json
import logging
import os
import pty
import sys
import tty

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def serial_line():
    """A line of two pseudo terminals: the paths of its ends."""
    ends = [pty.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    (left, _), (right, _) = ends
    loop = asyncio.get_running_loop()
    loop.add_reader(left, lambda: os.write(right, os.read(left, 4096)))
    loop.add_reader(right, lambda: os.write(left, os.read(right, 4096)))
    return tuple(os.ttyname(slave) for _, slave in ends)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--serial", action="store_true", help="on a serial line")
    options = parser.parse_args()
    written, state = [], {"delay": 0.0}

    async def accessed(function, _start, address, count, _registers, values):
        if values is None:
            return None
        written.append([function, address, [int(value) for value in values]])
        await asyncio.sleep(state["delay"])
        return None

    registers = [SimData(0, values=0, count=100, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=False, count=8, datatype=DataType.BITS)]
    device = SimDevice(id=1, simdata=(bits, bits, registers, registers), action=accessed)
    if options.serial:
        ours, place = serial_line()
        server = ModbusSerialServer(device, framer=FramerType.RTU, port=ours, baudrate=115200)
    else:
        server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    if not options.serial:
        place = server.transport.sockets[0].getsockname()[1]
    print(f"ready {place}", flush=True)

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        word, *rest = line.split()
        if word == "delay":
            state["delay"] = float(rest[0])
            print("done", flush=True)
        elif word == "written":
            print(json.dumps(written, separators=(",", ":")), flush=True)
        else:
            print(f"unknown command {word}", flush=True)


logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
asyncio.run(main())
