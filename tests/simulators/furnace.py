#!/usr/bin/env python3
"""A furnace with a cooling valve, by Modbus TCP (pymodbus): it heats up while the valve is closed, and cools down while it is open.

Holding register 0: temperature in tenths of a degree, read only. Holding register 1: the valve, 0 closed, 1 open; every write of it is a line
`valve <value>` in the journal, on its way to the file before the answer.

Control: as the other simulators.
"""

import argparse
import asyncio
import logging
import os
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from control import Control

WRITES = (5, 6, 15, 16, 22)
# Degrees a second.
HEATING, COOLING = 5.0, 9.0
TICK = 0.1


class Furnace:
    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.temperature, self.valve, self.said = 70.0, 0, 0

    async def look(self, function, start, address, count, registers, values):
        if values is not None and function in WRITES:
            self.valve = int(values[0])
            os.write(self._file, f"valve {self.valve}\n".encode())
            self.said += 1
        elif start <= 0 < start + len(registers):
            registers[0 - start] = int(self.temperature * 10)
        return None

    def write(self):
        """Nothing waits."""

    async def burn(self):
        while True:
            await asyncio.sleep(TICK)
            change = -COOLING if self.valve else HEATING
            self.temperature = min(max(self.temperature + change * TICK, 20.0), 200.0)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="TCP port")
    parser.add_argument("--journal", required=True)
    args = parser.parse_args()
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    furnace, control = Furnace(args.journal), Control(True)
    registers = SimData(0, values=[700, 0], datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(id=0, simdata=[registers], action=furnace.look), address=("127.0.0.1", args.port))
    await server.serve_forever(background=True)
    burning = asyncio.ensure_future(furnace.burn())
    control.tell(ready=True)
    await control.listen(furnace)
    burning.cancel()
    await server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
