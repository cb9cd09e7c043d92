"""An OPC UA server for the tests of commands: asyncua, with methods and variables, and a count of all that was done.

Prints "ready <port>" once it listens. Commands come by standard input, one a line; each is answered by one line.
"""

import argparse
import asyncio
import json
import logging
import sys

from asyncua import Server, ua
from asyncua.common.methods import uamethod
from asyncua.common.structures104 import new_enum
from asyncua.server.address_space import AttributeService

# What was done, in order.
done = []


def count_writes():
    """asyncua tells nobody of a value that is written again as it was."""
    write = AttributeService.write

    async def counted(self, params, **options):
        results = await write(self, params, **options)
        for item, status in zip(params.NodesToWrite, results):
            # Namespace 0: the server's own clock.
            if status.is_good() and item.NodeId.NamespaceIndex == 2:
                done.append(f"write {item.NodeId.Identifier}")
        return results

    AttributeService.write = counted


def argument(name, data_type, rank=-1):
    node = data_type if isinstance(data_type, ua.NodeId) else ua.NodeId(data_type)
    return ua.Argument(Name=name, DataType=node, ValueRank=rank, Description=ua.LocalizedText(name))


@uamethod
def move(_parent, x, steps, fast):
    done.append(f"move {x} {steps} {fast}")
    return ua.Variant(x * 2, ua.VariantType.Double), ua.Variant(2**64 - 1, ua.VariantType.UInt64)


@uamethod
def total(_parent, values):
    done.append(f"total {values}")
    return float(sum(values))


@uamethod
def select(_parent, mode):
    done.append(f"select {mode}")
    return ua.Variant(mode, ua.VariantType.Int32)


@uamethod
def stop(_parent):
    done.append("stop")


@uamethod
async def wait(_parent, seconds):
    done.append("wait")
    await asyncio.sleep(seconds)


@uamethod
def refuse(_parent, code):
    done.append("refuse")
    return ua.StatusCode(code)


@uamethod
def fail(_parent):
    done.append("fail")
    raise RuntimeError("on purpose")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options.port}/test")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    assert await server.register_namespace("urn:test") == 2
    modes = await new_enum(server, 2, "Mode", ["Off", "Manual", "Automatic"])
    await server.load_data_type_definitions()
    plant = await server.nodes.objects.add_object(ua.NodeId("Plant", 2), ua.QualifiedName("Plant", 2))
    kinds = ua.ObjectIds

    async def method(name, function, inputs, outputs):
        await plant.add_method(ua.NodeId(name, 2), ua.QualifiedName(name, 2), function, inputs, outputs)

    moved = [argument("distance", kinds.Double), argument("count", kinds.UInt64)]
    await method("Move Axis", move, [argument("x", kinds.Double), argument("steps", kinds.Int16), argument("fast", kinds.Boolean)], moved)
    await method("Total", total, [argument("values", kinds.Double, 1)], [argument("", kinds.Double)])
    await method("Select", select, [argument("mode", modes.nodeid)], [argument("mode", modes.nodeid)])
    await method("Stop", stop, [], [])
    await method("Wait", wait, [argument("seconds", kinds.Double)], [])
    await method("Refuse", refuse, [argument("code", kinds.UInt32)], [])
    await method("Fail", fail, [], [])

    async def variable(name, value, kind, data_type=None):
        node = await plant.add_variable(ua.NodeId(name, 2), ua.QualifiedName(name, 2), value, kind, datatype=data_type)
        await node.set_writable()
        return node

    kind = ua.VariantType
    nodes = {
        "bool": await variable("bool", False, kind.Boolean),
        "byte": await variable("byte", 0, kind.Byte),
        "int": await variable("int", 0, kind.Int32),
        "big": await variable("big", 0, kind.UInt64),
        "float": await variable("float", 0.0, kind.Float),
        "double": await variable("double", 0.0, kind.Double),
        "text": await variable("text", "", kind.String),
        "local": await variable("local", ua.LocalizedText(""), kind.LocalizedText),
        "mode": await variable("mode", 0, kind.Int32, modes.nodeid),
        "list": await variable("list", [1, 2], kind.Int16),
        "fixed": await plant.add_variable(ua.NodeId("fixed", 2), ua.QualifiedName("fixed", 2), 1, kind.Int32),
    }
    await server.start()
    count_writes()
    print(f"ready {server.bserver._server.sockets[0].getsockname()[1]}", flush=True)

    async def command(line):
        word, *rest = line.split()
        if word == "done":
            return json.dumps(done)
        if word == "value":
            value = await nodes[rest[0]].read_data_value()
            return f"{value.Value.Value!r} {value.Value.VariantType.name}"
        if word == "bad":
            bad = ua.DataValue(ua.Variant(0, kind.Int32), ua.StatusCode(ua.StatusCodes.BadSensorFailure))
            await server.write_attribute_value(nodes["int"].nodeid, bad)
            return "done"
        return f"unknown command {word}"

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        print(await command(line), flush=True)


logging.basicConfig(level=logging.CRITICAL)
asyncio.run(main())
