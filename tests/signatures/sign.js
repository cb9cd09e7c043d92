// Signs commands as docs/commands.md says it, with Node's own Ed25519.
//
// Reads test vectors (JSON) from the file that is named, and prints for each the canonical bytes and the signature, as JSON, a line each.
const { createPrivateKey, sign } = require("node:crypto");
const { readFileSync } = require("node:fs");

// What stands before the 32 bytes of a key in PKCS #8 (RFC 8410).
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");

function canonicalBytes(asset, method, { header, arguments: values }) {
  const fields = [asset, method];
  for (const name of ["correlation_id", "sender_uuid", "timestamp", "expires_at"]) fields.push(header[name] ?? "");
  const names = Object.keys(values).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (const name of names) fields.push(name, values[name]);
  const parts = [Buffer.from("OpenFactory command 1\n")];
  for (const field of fields) {
    const text = Buffer.from(field);
    parts.push(Buffer.from(`${text.length}:`), text, Buffer.from(","));
  }
  return Buffer.concat(parts);
}

for (const { seed, asset, method, envelope } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const bytes = canonicalBytes(asset, method, JSON.parse(envelope));
  const key = createPrivateKey({ key: Buffer.concat([PKCS8, Buffer.from(seed, "hex")]), format: "der", type: "pkcs8" });
  const signature = "ed25519:" + sign(null, bytes, key).toString("base64");
  console.log(JSON.stringify({ canonical: bytes.toString("hex"), signature }));
}
