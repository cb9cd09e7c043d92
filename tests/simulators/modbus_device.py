#!/usr/bin/env python3
"""Modbus devices made of pymodbus, whose registers count up as they are read, and a journal of every value that they answered.

Assets are MODBUS-001, MODBUS-002, …: one TCP port each (`--ports`), or one serial line (`--rtu`) with the units 1, 2, …. Tag i of an
asset is an unsigned 32-bit counter in the holding registers 2i and 2i+1, high word first.

A polled device says a value when it answers with it, so a tag moves on when it is read (not more often than `--period`), and that is
when the journal notes it.
"""

import argparse
import asyncio
import logging
import os
import pty
import sys
import time
import tty

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from control import Control, Journal

READ_HOLDING_REGISTERS = 3


class Device:
    def __init__(self, asset, args, control, journal):
        self.asset, self.control, self.journal = asset, control, journal
        self.period = args.period
        self.counts = [args.first] * args.registers
        self.moved = [0.0] * args.registers
        self.told = [False] * args.registers

    def simulated(self, unit):
        first = [word for count in self.counts for word in (count >> 16, count & 0xFFFF)]
        return SimDevice(id=unit, simdata=[SimData(0, values=first, datatype=DataType.REGISTERS)], action=self.read)

    async def read(self, function, start, address, count, registers, _values):
        if function != READ_HOLDING_REGISTERS:
            return None
        now = time.monotonic()
        # Tags of which the answer holds both words.
        for tag in range((address + 1) // 2, (address + count) // 2):
            moves = self.control.running.is_set() and self.told[tag] and now - self.moved[tag] >= self.period
            if moves:
                self.counts[tag] += 1
                self.moved[tag] = now
                registers[2 * tag - start] = self.counts[tag] >> 16
                registers[2 * tag + 1 - start] = self.counts[tag] & 0xFFFF
            if moves or not self.told[tag]:
                self.told[tag] = True
                self.journal.note(self.asset, f"t{tag}", self.counts[tag], -int(time.time() * 1000))
        self.journal.write()
        return None


def serial_line():
    """A line of two pseudo terminals: returns the path of the device's end and of the master's end."""
    ends = [pty.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    loop = asyncio.get_running_loop()
    (left, _), (right, _) = ends

    def pump(source, target):
        os.write(target, os.read(source, 4096))

    loop.add_reader(left, pump, left, right)
    loop.add_reader(right, pump, right, left)
    return tuple(os.ttyname(slave) for _, slave in ends)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ports", default="", help="a device on each TCP port, separated by commas")
    parser.add_argument("--rtu", type=int, default=0, help="devices on a serial line (a pseudo terminal)")
    parser.add_argument("--first-device", type=int, default=1, help="number of the first asset")
    parser.add_argument("--registers", type=int, default=10, help="counters of each device")
    parser.add_argument("--period", type=float, default=0.0, help="seconds for which a counter stands still at least")
    parser.add_argument("--first", type=int, default=0, help="value of every counter at the start: a restarted device goes on above")
    parser.add_argument("--journal", required=True)
    parser.add_argument("--running", action="store_true", help="do not wait for `go`")
    args = parser.parse_args()
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

    journal, control = Journal(args.journal), Control(args.running)
    ports = [int(port) for port in args.ports.split(",") if port]
    names = [f"MODBUS-{number:03}" for number in range(args.first_device, args.first_device + len(ports) + args.rtu)]
    devices = [Device(name, args, control, journal) for name in names]
    servers, line = [], None
    for port, device in zip(ports, devices):
        servers.append(ModbusTcpServer(device.simulated(0), address=("127.0.0.1", port)))
    if args.rtu:
        ours, line = serial_line()
        units = [device.simulated(unit) for unit, device in enumerate(devices[len(ports):], start=1)]
        servers.append(ModbusSerialServer(units, framer=FramerType.RTU, port=ours, baudrate=115200))
    for server in servers:
        await server.serve_forever(background=True)
    control.tell(ready=True, assets=names, line=line)
    await control.listen(journal)
    for server in servers:
        await server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
