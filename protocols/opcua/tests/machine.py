"""An OPC UA server for the tests: asyncua, with a variable of every type, alarms, methods, and all kinds of security.

Prints "ready <port>" once it listens. Commands come by standard input, one a line; each is answered by one line.
"""

import argparse
import asyncio
import logging
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

from asyncua import Server, ua
from asyncua.common.methods import uamethod
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

URI = "urn:machine"


class Accounts(UserManager):
    """The user edge with the password right, and whoever has a certificate in the folder; anonymous only where nothing is secured."""

    def __init__(self, options):
        self.options = options

    def get_user(self, iserver, username=None, password=None, certificate=None):
        user = User(role=UserRole.Admin)
        if username is not None:
            return user if (username, password) == ("edge", "right") else None
        if self.options.users is None:
            return user
        known = [path.read_bytes() for path in Path(self.options.users).glob("*.der")]
        return user if certificate in known else None


def make_certificate(folder, options):
    """A certificate as a server of the field has it; writes server.der and server.pem."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Machine/Server")])
    now = datetime.now(timezone.utc)
    begin, end = now - timedelta(days=20), now + timedelta(days=20)
    if options.certificate == "expired":
        end = now - timedelta(days=1)
    names = [x509.UniformResourceIdentifier("urn:another" if options.certificate == "other-uri" else URI), x509.DNSName("machine.plant")]
    usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding, serialization.NoEncryption()
    (folder / "server.der").write_bytes(certificate.public_bytes(encoding.DER))
    (folder / "server.pem").write_bytes(key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


def set_clock(ahead):
    """The server's clock as its answers show it."""
    create = ua.ResponseHeader.__init__

    def create_with_time(self, *values, **fields):
        create(self, *values, **fields)
        self.Timestamp = datetime.now(timezone.utc) + ahead

    ua.ResponseHeader.__init__ = create_with_time


def strict(folder, ahead):
    """Takes the clients whose certificates lie in the folder, and checks what the standard asks for."""

    async def validate(certificate, description):
        if not certificate.not_valid_before_utc <= datetime.now(timezone.utc) + ahead <= certificate.not_valid_after_utc:
            raise ServiceError(ua.StatusCodes.BadCertificateTimeInvalid)
        der = certificate.public_bytes(serialization.Encoding.DER)
        if der not in [path.read_bytes() for path in folder.glob("*.der")]:
            raise ServiceError(ua.StatusCodes.BadSecurityChecksFailed)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if description.ApplicationUri not in names.get_values_for_type(x509.UniformResourceIdentifier):
            raise ServiceError(ua.StatusCodes.BadCertificateUriInvalid)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.digital_signature and usage.content_commitment and usage.key_encipherment and usage.data_encipherment):
            raise ServiceError(ua.StatusCodes.BadCertificateUseNotAllowed)
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
            raise ServiceError(ua.StatusCodes.BadCertificateUseNotAllowed)

    return validate


async def add_types(server, plant):
    kind = ua.VariantType

    async def variable(name, value, variant_type, data_type=None):
        variant = value if isinstance(value, ua.Variant) else ua.Variant(value, variant_type)
        await plant.add_variable(ua.NodeId(name, 2), ua.QualifiedName(name, 2), variant, datatype=data_type)

    await variable("boolean", True, kind.Boolean)
    await variable("sbyte", -128, kind.SByte)
    await variable("byte", 255, kind.Byte)
    await variable("int16", -32768, kind.Int16)
    await variable("uint16", 65535, kind.UInt16)
    await variable("int32", -(2**31), kind.Int32)
    await variable("uint32", 2**32 - 1, kind.UInt32)
    await variable("int64", -(2**63), kind.Int64)
    await variable("uint64", 2**64 - 1, kind.UInt64)
    await variable("float", 24.3, kind.Float)
    await variable("double", 0.1, kind.Double)
    await variable("nan", float("nan"), kind.Double)
    await variable("text", 'grün "quoted"', kind.String)
    await variable("empty_text", "", kind.String)
    await variable("null_text", None, kind.String)
    await variable("time", datetime(2026, 1, 27, 15, 37, 3, 871000, tzinfo=timezone.utc), kind.DateTime)
    await variable("guid", UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63"), kind.Guid)
    await variable("bytes", b"\x00\xff", kind.ByteString)
    await variable("xml", ua.XmlElement("<a>1</a>"), kind.XmlElement)
    await variable("node_id", ua.NodeId("a;b", 2), kind.NodeId)
    await variable("expanded", ua.ExpandedNodeId("far", 2), kind.ExpandedNodeId)
    await variable("status", ua.StatusCode(ua.StatusCodes.BadSensorFailure), kind.StatusCode)
    await variable("qualified", ua.QualifiedName("Pump", 2), kind.QualifiedName)
    await variable("localized", ua.LocalizedText("Störung", "de"), kind.LocalizedText)
    await variable("numbers", [1, 2, 3], kind.Int32)
    await variable("no_numbers", [], kind.Int32)
    await variable("texts", ["a", "b"], kind.String)
    await variable("matrix", ua.Variant([[1, 2, 3], [4, 5, 6]], kind.Int32), kind.Int32)
    await variable("cube", ua.Variant([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], kind.Double), kind.Double)
    await variable("variants", ua.Variant([ua.Variant(1, kind.Int32), ua.Variant("b", kind.String)], kind.Variant), None, ua.NodeId(ua.ObjectIds.BaseDataType))
    await variable("no_value", ua.Variant(None), None, ua.NodeId(ua.ObjectIds.Double))
    await variable("range", ua.Variant(ua.Range(Low=-0.5, High=100.0), kind.ExtensionObject), None, ua.NodeId(ua.ObjectIds.Range))
    await variable("server_state", ua.Variant(0, kind.Int32), None, ua.NodeId(ua.ObjectIds.ServerState))

    state = await new_enum(server, 2, "MachineState", ["Idle", "Running", "Fault"])
    old = await server.nodes.enum_data_type.add_data_type(2, "OldState")
    await old.add_property(0, "EnumStrings", [ua.LocalizedText("Off"), ua.LocalizedText("On")])
    point, _ = await new_struct(server, 2, "Point", [new_struct_field("X", kind.Double), new_struct_field("Y", kind.Double)])
    fields = [
        new_struct_field("Name", kind.String),
        new_struct_field("State", state),
        new_struct_field("Total", kind.UInt64),
        new_struct_field("Place", point),
        new_struct_field("Way", point, array=True),
        new_struct_field("Limits", ua.NodeId(ua.ObjectIds.Range)),
        new_struct_field("Shifts", kind.Int32, array=True),
    ]
    await new_struct(server, 2, "Machine", fields)
    optional = [new_struct_field("A", kind.Int32, optional=True), new_struct_field("B", kind.Int32, optional=True)]
    await new_struct(server, 2, "Partial", optional)
    await new_struct(server, 2, "Choice", [new_struct_field("Number", kind.Int32), new_struct_field("Text", kind.String)], is_union=True)
    types = await server.load_data_type_definitions()
    machine = types["Machine"](
        Name=None,
        State=types["MachineState"].Running,
        Total=2**64 - 1,
        Place=types["Point"](X=1.5, Y=-2.0),
        Way=[types["Point"](X=0.0, Y=0.0), types["Point"](X=1.0, Y=0.5)],
        Limits=ua.Range(Low=0.0, High=10.0),
        Shifts=None,
    )
    await variable("state", ua.Variant(1, kind.Int32), None, state.nodeid)
    await variable("states", ua.Variant([0, 2, 7], kind.Int32), None, state.nodeid)
    await variable("old_state", ua.Variant(1, kind.Int32), None, old.nodeid)
    await variable("machine", machine, kind.ExtensionObject)
    await variable("points", [types["Point"](X=1.0, Y=2.0), types["Point"](X=3.0, Y=4.0)], kind.ExtensionObject)
    await variable("partial", types["Partial"](B=7), kind.ExtensionObject)
    choice = types["Choice"]()
    choice.Text = "second"
    await variable("choice", choice, kind.ExtensionObject)


@uamethod
def move(parent, x, y):
    return x + y


async def add_methods(plant):
    kind = ua.VariantType

    def argument(name, description, data_type):
        return ua.Argument(Name=name, DataType=ua.NodeId(data_type.value), ValueRank=-1, Description=ua.LocalizedText(description))

    cell = await plant.add_object(ua.NodeId("Cell", 2), ua.QualifiedName("Cell", 2))
    axis = await cell.add_object(ua.NodeId("Axis", 2), ua.QualifiedName("Axis", 2))
    pump = await cell.add_object(ua.NodeId("Pump", 2), ua.QualifiedName("Pump", 2))
    arguments = [argument("x", "to the right", kind.Double), argument("y", "", kind.Int32)]
    method = await axis.add_method(ua.NodeId("move", 2), ua.QualifiedName("Move to °", 2), move, arguments, [kind.Double])
    await method.write_attribute(ua.AttributeIds.Description, ua.DataValue(ua.LocalizedText("Moves the axis")))
    await axis.add_method(ua.NodeId("axis_stop", 2), ua.QualifiedName("Stop", 2), move)
    await pump.add_method(ua.NodeId("pump_stop", 2), ua.QualifiedName("Stop", 2), move)
    # A cycle: the axis organizes the cell that holds it.
    await axis.add_reference(cell, ua.ObjectIds.Organizes)


async def add_alarms(server, plant):
    furnace = await plant.add_object(ua.NodeId("Furnace", 2), ua.QualifiedName("Furnace", 2))
    alarm_type = await server.nodes.base_event_type.get_child(["0:ConditionType", "0:AcknowledgeableConditionType", "0:AlarmConditionType"])
    overheat = await alarm_type.add_object_type(2, "OverheatAlarmType")
    alarms = await server.get_event_generator(overheat, furnace)
    plain = await server.get_event_generator(server.get_node(ua.ObjectIds.SystemEventType), furnace)

    async def alarm(active, severity, message):
        event = alarms.event
        event.Severity = severity
        event.ConditionName = "Overheat"
        event.NodeId = ua.NodeId("overheat", 2)
        event.BranchId = ua.NodeId()
        event.Retain = active
        setattr(event, "ActiveState/Id", active)
        setattr(event, "AckedState/Id", False)
        setattr(event, "EnabledState/Id", True)
        await alarms.trigger(message=message)

    async def tell(severity, message):
        plain.event.Severity = severity
        await plain.trigger(message=message)

    return alarm, tell


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--secure", help="the folder for the server's certificate and key, server.der and server.pem")
    parser.add_argument("--certificate", default="good", help="good, expired or other-uri")
    parser.add_argument("--clients", help="the folder of the client certificates that are trusted")
    parser.add_argument("--users", help="the folder of the users' certificates; then nobody is let in anonymously")
    parser.add_argument("--clock", type=int, default=0, help="days that the server's clock is ahead")
    options = parser.parse_args()

    ahead = timedelta(days=options.clock)
    set_clock(ahead)
    server = Server(user_manager=Accounts(options))
    await server.init()
    await server.set_application_uri(URI)
    server.set_endpoint("opc.tcp://127.0.0.1:0/machine")
    policies = [ua.SecurityPolicyType.NoSecurity]
    if options.secure:
        make_certificate(Path(options.secure), options)
        await server.load_certificate(Path(options.secure) / "server.der")
        await server.load_private_key(Path(options.secure) / "server.pem")
        policies += [
            ua.SecurityPolicyType.Basic256Sha256_Sign,
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
            ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
            ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
        ]
    if options.clients:
        server.set_certificate_validator(strict(Path(options.clients), ahead))
    server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
    index = await server.register_namespace("urn:test")
    assert index == 2
    plant = await server.nodes.objects.add_object(ua.NodeId("Plant", 2), ua.QualifiedName("Plant", 2))
    alarm, tell = await add_alarms(server, plant)
    await add_methods(plant)
    await add_types(server, plant)
    await server.start()
    port = server.bserver._server.sockets[0].getsockname()[1]
    print(f"ready {port}", flush=True)

    async def command(line):
        word, *rest = line.split()
        if word == "alarm":
            await alarm(rest[0] == "active", int(rest[1]), " ".join(rest[2:]))
        elif word == "event":
            await tell(int(rest[0]), " ".join(rest[1:]))
        else:
            return f"unknown command {word}"
        return "done"

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        print(await command(line), flush=True)


logging.basicConfig(level=logging.CRITICAL)
asyncio.run(main())
