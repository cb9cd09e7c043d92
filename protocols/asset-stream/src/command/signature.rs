//! Signatures of commands: Ed25519 (RFC 8032) over canonical bytes.
//!
//! The canonical bytes are the line `OpenFactory command 1`, with its line feed, and then, each as a netstring (its length in bytes as a decimal
//! number, `:`, the bytes, `,`): the target asset, the method's safe name, `correlation_id`, `sender_uuid`, `timestamp`, `expires_at` (empty if
//! there is none), and name and value of every argument, in the order of the names' UTF-8 bytes. They do not depend on how the envelope is
//! written as JSON. `header.signature` is `ed25519:` and the 64 bytes in base64 (RFC 4648, with padding).
//!
//! ```
//! use asset_stream::command::Command;
//! use asset_stream::command::signature::{PrivateKey, canonical_bytes, verify};
//!
//! let mut command = Command::decode(r#"{"header": {"correlation_id": "c-1", "sender_uuid": "HMI-7"}, "arguments": {"x": "10"}}"#)?;
//! assert_eq!(canonical_bytes("CNC-1", "Move", &command), b"OpenFactory command 1\n5:CNC-1,4:Move,3:c-1,5:HMI-7,0:,0:,1:x,2:10,");
//! let key = PrivateKey::from_seed(&[7; 32]);
//! command.header.signature = Some(key.sign("CNC-1", "Move", &command));
//! assert!(verify(&[key.public()], "CNC-1", "Move", &command).is_ok());
//! assert!(verify(&[key.public()], "CNC-2", "Move", &command).is_err());
//! # Ok::<(), asset_stream::command::NotACommand>(())
//! ```

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::Command;

/// What stands before keys and signatures.
const SCHEME: &str = "ed25519:";

/// The bytes that are signed.
pub fn canonical_bytes(asset: &str, method: &str, command: &Command) -> Vec<u8> {
    let header = &command.header;
    let expires_at = header.expires_at.as_deref().unwrap_or_default();
    let mut arguments: Vec<(&str, &str)> = command.arguments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    arguments.sort_unstable();
    let fixed = [asset, method, &header.correlation_id, &header.sender_uuid, &header.timestamp, expires_at];
    let mut bytes = b"OpenFactory command 1\n".to_vec();
    for text in fixed.into_iter().chain(arguments.into_iter().flat_map(|(name, value)| [name, value])) {
        bytes.extend_from_slice(text.len().to_string().as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b',');
    }
    bytes
}

/// A key that signs. Its `Debug` does not show it.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

/// A key that verifies: `ed25519:` and 32 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why a text is no key.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// The private key's file holds something else.
    #[error("it is no Ed25519 private key in PEM (PKCS #8), as `openssl genpkey -algorithm ed25519` makes it")]
    Private(#[source] ed25519_dalek::pkcs8::Error),
    /// The public key is written in another way.
    #[error("expected `ed25519:` and 32 bytes in base64")]
    Public,
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// There is none.
    #[error("the command is not signed")]
    Unsigned,
    /// It is no text of ours.
    #[error("header.signature is not `ed25519:` and 64 bytes in base64")]
    Unreadable,
    /// None of the keys made it over these bytes.
    #[error("the signature is none of the sender's keys over this command")]
    Forged,
}

impl PrivateKey {
    /// Reads a PEM file's text (PKCS #8).
    pub fn from_pem(text: &str) -> Result<Self, BadKey> {
        SigningKey::from_pkcs8_pem(text).map(Self).map_err(BadKey::Private)
    }

    /// The key of a seed (RFC 8032's private key).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// What belongs into `header.signature`.
    pub fn sign(&self, asset: &str, method: &str, command: &Command) -> String {
        let signature = self.0.sign(&canonical_bytes(asset, method, command));
        format!("{SCHEME}{}", BASE64.encode(&signature.to_bytes()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bytes: [u8; 32] = decode(text).ok_or(BadKey::Public)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| BadKey::Public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", BASE64.encode(self.0.as_bytes()))
    }
}

/// Whether one of the sender's keys has signed the command to this asset and method.
pub fn verify(keys: &[PublicKey], asset: &str, method: &str, command: &Command) -> Result<(), Unverified> {
    let text = command.header.signature.as_deref().filter(|text| !text.is_empty()).ok_or(Unverified::Unsigned)?;
    let signature = Signature::from_bytes(&decode(text).ok_or(Unverified::Unreadable)?);
    let bytes = canonical_bytes(asset, method, command);
    // Strict: keys of small order, with which anything verifies, are refused.
    let is_theirs = keys.iter().any(|PublicKey(key)| key.verify_strict(&bytes, &signature).is_ok());
    if is_theirs { Ok(()) } else { Err(Unverified::Forged) }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text.strip_prefix(SCHEME)?.as_bytes()).ok()?.try_into().ok()
}
