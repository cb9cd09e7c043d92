"""An OPC UA server for the tests: asyncua, with counters that show every loss, and faults on command.

Prints "ready <port>" once it listens. Commands come by standard input, one a line; each is answered by one line.
"""

import argparse
import asyncio
import logging
import sys
from datetime import datetime, timezone
from pathlib import Path

from asyncua import Server, ua
from asyncua.common.methods import uamethod
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset
from asyncua.server.internal_session import InternalSession
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.user_managers import UserManager
from cryptography.x509.oid import ExtendedKeyUsageOID
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole


class Faults:
    """What the server counts and what it refuses."""

    most_items = 0
    most_reads = 0
    most_subscriptions = 0
    most_subscribed = 0
    largest_create = 0
    logins = 0
    refused = 0
    skip = 0
    forget = False
    first_sequence = 1
    reads = 0
    # Told when a counter or `reads` went on.
    went_on = None


def install(faults):
    """asyncua knows no limits of its own."""
    create, read, activate = InternalSession.create_monitored_items, InternalSession.read, InternalSession.activate_session

    async def limited_create(self, params):
        count = len(params.ItemsToCreate)
        if faults.most_items and count > faults.most_items:
            faults.refused += 1
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
        faults.largest_create = max(faults.largest_create, count)
        if not faults.most_subscribed:
            return await create(self, params)
        taken = faults.subscribed.get(params.SubscriptionId, 0)
        params.ItemsToCreate = params.ItemsToCreate[: faults.most_subscribed - taken]
        faults.subscribed[params.SubscriptionId] = taken + len(params.ItemsToCreate)
        full = ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadTooManyMonitoredItems))
        results = await create(self, params)
        return results + [full] * (count - len(results))

    subscribe = InternalSession.create_subscription

    async def limited_subscribe(self, *args, **options):
        if faults.most_subscriptions and len(self.subscription_service.subscriptions) >= faults.most_subscriptions:
            faults.refused += 1
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManySubscriptions)
        return await subscribe(self, *args, **options)

    async def limited_read(self, params):
        async with faults.went_on:
            faults.reads += 1
            faults.went_on.notify_all()
        if faults.most_reads and len(params.NodesToRead) > faults.most_reads:
            faults.refused += 1
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
        return await read(self, params)

    def counted_activate(self, params, peer_certificate, *rest):
        faults.logins += 1
        return activate(self, params, peer_certificate, *rest)

    start = InternalSubscription.__init__

    def lossy_subscription(self, *args, **options):
        start(self, *args, **options)
        send = self.pub_result_callback

        async def maybe_send(result, *request):
            message = result.NotificationMessage
            if faults.skip and message.NotificationData:
                faults.skip -= 1
                if faults.forget:
                    self._not_acknowledged_results.pop(message.SequenceNumber)
                return
            await send(result, *request)

        self.pub_result_callback = maybe_send

    def number(self):
        return self.__dict__["number"]

    def set_number(self, value):
        # asyncua counts from 1, and beyond what the wire can carry.
        value = value if "number" in self.__dict__ else faults.first_sequence
        self.__dict__["number"] = 1 if value > 0xFFFFFFFF else value

    InternalSubscription.__init__ = lossy_subscription
    InternalSubscription._notification_seq = property(number, set_number)
    InternalSession.create_monitored_items = limited_create
    InternalSession.create_subscription = limited_subscribe
    InternalSession.read = limited_read
    InternalSession.activate_session = counted_activate


class Accounts(UserManager):
    def __init__(self, account):
        self.account = account

    def get_user(self, iserver, username=None, password=None, certificate=None):
        if self.account is None:
            return User(role=UserRole.Admin)
        if f"{username}:{password}" == self.account:
            return User(role=UserRole.Admin, name=username)
        return None


@uamethod
def add(parent, x, y):
    return x + y


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--counters", type=int, default=10)
    parser.add_argument("--interval", type=float, default=0.1)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--account")
    parser.add_argument("--secure", help="the folder for the server's own certificate and key")
    parser.add_argument("--most-items", type=int, default=0)
    parser.add_argument("--most-reads", type=int, default=0)
    parser.add_argument("--most-subscriptions", type=int, default=0)
    parser.add_argument("--most-subscribed", type=int, default=0, help="items in one subscription")
    parser.add_argument("--first-sequence", type=int, default=1)
    options = parser.parse_args()

    faults = Faults()
    faults.went_on = asyncio.Condition()
    faults.most_items, faults.most_reads = options.most_items, options.most_reads
    faults.most_subscriptions, faults.most_subscribed = options.most_subscriptions, options.most_subscribed
    faults.subscribed = {}
    faults.first_sequence = options.first_sequence
    install(faults)
    server = Server(user_manager=Accounts(options.account))
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options.port}/test")
    policies = [ua.SecurityPolicyType.NoSecurity]
    if options.secure:
        certificate, key = Path(options.secure) / "server.der", Path(options.secure) / "server.pem"
        uri = "urn:test:server"
        await server.set_application_uri(uri)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        await setup_self_signed_certificate(key, certificate, uri, "localhost", usages, {"commonName": "test server"})
        await server.load_certificate(certificate)
        await server.load_private_key(key)
        policies.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
    server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
    index = await server.register_namespace("urn:test")
    assert index == 2
    plant = await server.nodes.objects.add_object(ua.NodeId("Plant", 2), ua.QualifiedName("Plant", 2))

    async def variable(name, value, kind):
        node = await plant.add_variable(ua.NodeId(name, 2), ua.QualifiedName(name, 2), value, kind)
        await node.set_writable()
        return node

    kind = ua.VariantType
    counters = [await variable(f"counter{i}", 0, kind.Int64) for i in range(options.counters)]
    many = [await variable(f"many{i}", 0, kind.Int64) for i in range(options.many)]
    await variable("model", "M-100", kind.String)
    burst = await variable("burst", 0, kind.Int64)
    temperature = await variable("temperature", 20.0, kind.Double)
    await variable("array", [float(i) for i in range(10_000)], kind.Double)
    machine = await plant.add_object(ua.NodeId("Machine", 2), ua.QualifiedName("Machine", 2))
    method = await machine.add_method(ua.NodeId("Add", 2), ua.QualifiedName("Add", 2), add, [kind.Double, kind.Double], [kind.Double])
    # As instances of a type do, it has the same method.
    twin = await plant.add_object(ua.NodeId("Twin", 2), ua.QualifiedName("Twin", 2))
    await twin.add_reference(method, ua.ObjectIds.HasComponent, bidirectional=False)

    await server.start()
    port = server.bserver._server.sockets[0].getsockname()[1]
    print(f"ready {port}", flush=True)

    async def write(node, value, kind, status=ua.StatusCodes.Good):
        now = datetime.now(timezone.utc)
        data = ua.DataValue(Value=ua.Variant(value, kind), StatusCode=ua.StatusCode(status), SourceTimestamp=now)
        await server.write_attribute_value(node.nodeid, data)

    state = {"count": 0, "running": True}

    async def count():
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += options.interval
            await asyncio.sleep(max(0, due - loop.time()))
            if not state["running"]:
                continue
            state["count"] += 1
            for node in counters:
                await write(node, state["count"], kind.Int64)
            async with faults.went_on:
                faults.went_on.notify_all()

    async def command(line):
        word, *rest = line.split()
        if word == "touch":
            for node in many:
                await write(node, int(rest[0]), kind.Int64)
        elif word == "burst":
            for value in range(int(rest[0]), int(rest[1])):
                await write(burst, value, kind.Int64)
        elif word == "temperature":
            await write(temperature, float(rest[0]), kind.Double)
        elif word == "dated":
            moment = datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
            value = ua.Variant(float(rest[0]), kind.Double)
            await server.write_attribute_value(temperature.nodeid, ua.DataValue(Value=value, SourceTimestamp=moment))
        elif word == "bad":
            await write(temperature, 0.0, kind.Double, status=ua.StatusCodes.BadSensorFailure)
        elif word == "pause":
            state["running"] = False
        elif word == "resume":
            state["running"] = True
        elif word == "rebuild":
            await variable(rest[0], 1, kind.Int64)
        elif word == "stats":
            subscriptions = len(server.iserver.subscription_service.subscriptions)
            return f"{subscriptions} {faults.logins} {faults.largest_create} {faults.refused} {state['count']}"
        elif word == "reach":
            async with faults.went_on:
                await faults.went_on.wait_for(lambda: state["count"] >= int(rest[0]))
        elif word == "be-read":
            enough = faults.reads + int(rest[0])
            async with faults.went_on:
                await faults.went_on.wait_for(lambda: faults.reads >= enough)
        elif word == "unacknowledged":
            services = server.iserver.subscription_service.subscriptions.values()
            return str(max((len(s._not_acknowledged_results) for s in services), default=0))
        elif word == "drop-subscriptions":
            service = server.iserver.subscription_service
            await service.delete_subscriptions(list(service.subscriptions))
        elif word == "skip":
            faults.skip, faults.forget = 1, rest[0] == "forget"
        elif word == "foreign":
            service = server.iserver.subscription_service
            ours = next(iter(service.subscriptions.values()))
            params = ua.CreateSubscriptionParameters()
            params.RequestedPublishingInterval, params.RequestedLifetimeCount, params.RequestedMaxKeepAliveCount = 100, 1000, 10
            await service.create_subscription(params, ours.pub_result_callback, ours.session_id, ours.pub_request_callback)
        elif word == "end-subscription":
            ours = next(iter(server.iserver.subscription_service.subscriptions.values()))
            await ours.enqueue_statuschange(ua.StatusCode(ua.StatusCodes.BadTimeout))
        elif word == "enormous":
            await write(await server.nodes.objects.get_child(["2:Plant", "2:model"]), "x" * (17 << 20), kind.String)
        elif word == "event":
            generator = await server.get_event_generator()
            generator.event.Severity = int(rest[0])
            await generator.trigger(message=" ".join(rest[1:]))
        else:
            return f"unknown command {word}"
        return "done"

    counting = asyncio.create_task(count())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        print(await command(line), flush=True)
    counting.cancel()


logging.basicConfig(level=logging.CRITICAL)
asyncio.run(main())
