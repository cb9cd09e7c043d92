"""Signs commands as docs/commands.md says it, with another implementation of Ed25519 than ours.

Reads test vectors (JSON) from the file that is named, and prints for each the canonical bytes and the signature, as JSON, a line each.
"""
import base64
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def canonical_bytes(asset, method, envelope):
    header, arguments = envelope["header"], envelope["arguments"]
    fields = [asset, method]
    fields += [header.get(name) or "" for name in ("correlation_id", "sender_uuid", "timestamp", "expires_at")]
    for name in sorted(arguments, key=lambda name: name.encode()):
        fields += [name, arguments[name]]
    texts = [field.encode() for field in fields]
    return b"OpenFactory command 1\n" + b"".join(b"%d:%s," % (len(text), text) for text in texts)


for vector in json.load(open(sys.argv[1], encoding="utf-8")):
    bytes_ = canonical_bytes(vector["asset"], vector["method"], json.loads(vector["envelope"]))
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"]))
    signature = "ed25519:" + base64.b64encode(key.sign(bytes_)).decode()
    print(json.dumps({"canonical": bytes_.hex(), "signature": signature}))
