//! Signatures against vectors that another implementation of Ed25519 has made: `golden/signatures.json`.

use asset_stream::command::Command;
use asset_stream::command::signature::{PrivateKey, PublicKey, Unverified, canonical_bytes, verify};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    /// RFC 8032's private key, in hexadecimal.
    seed: String,
    asset: String,
    method: String,
    envelope: String,
    /// In hexadecimal.
    canonical: String,
    signature: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("golden/signatures.json")).expect("vectors")
}

fn signed(vector: &Vector) -> (PublicKey, Command) {
    let seed: Vec<u8> = data_encoding::HEXLOWER.decode(vector.seed.as_bytes()).expect("hexadecimal");
    let key = PrivateKey::from_seed(&seed.try_into().expect("32 bytes"));
    let mut command = Command::decode(&vector.envelope).expect("an envelope");
    command.header.signature = Some(key.sign(&vector.asset, &vector.method, &command));
    (key.public(), command)
}

#[test]
fn canonical_bytes_and_signatures_are_those_of_the_vectors() {
    for vector in vectors() {
        let (public, command) = signed(&vector);
        let bytes = canonical_bytes(&vector.asset, &vector.method, &command);
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), vector.canonical, "{}", vector.name);
        assert_eq!(command.header.signature.as_deref(), Some(vector.signature.as_str()), "{}", vector.name);
        assert_eq!(verify(&[public], &vector.asset, &vector.method, &command), Ok(()), "{}", vector.name);
        assert_eq!(public.to_string().parse::<PublicKey>().expect("a key"), public);
        // Written anew as JSON, it is the same command.
        let again = Command::decode(&command.encode()).expect("an envelope");
        assert_eq!(verify(&[public], &vector.asset, &vector.method, &again), Ok(()), "{}", vector.name);
    }
}

#[test]
fn whatever_of_a_command_is_altered_its_signature_does_not_count_any_more() {
    for vector in vectors() {
        let (public, command) = signed(&vector);
        let other = PrivateKey::from_seed(&[9; 32]).public();
        let forged = |asset: &str, method: &str, alter: &dyn Fn(&mut Command)| {
            let mut command = command.clone();
            alter(&mut command);
            verify(&[other, public], asset, method, &command)
        };
        let (asset, method) = (vector.asset.as_str(), vector.method.as_str());
        assert_eq!(forged(asset, method, &|_| {}), Ok(()), "one of several keys is enough");
        assert_eq!(verify(&[other], asset, method, &command), Err(Unverified::Forged));
        assert_eq!(verify(&[], asset, method, &command), Err(Unverified::Forged));
        assert_eq!(forged("ANOTHER", method, &|_| {}), Err(Unverified::Forged));
        assert_eq!(forged(asset, "Another", &|_| {}), Err(Unverified::Forged));
        let alterations: [&dyn Fn(&mut Command); 6] = [
            &|command| command.header.correlation_id.push('x'),
            &|command| command.header.sender_uuid.push('x'),
            &|command| command.header.timestamp.push('x'),
            &|command| command.header.expires_at.get_or_insert_default().push('x'),
            &|command| command.arguments.push(("one more".into(), String::new())),
            &|command| command.arguments.iter_mut().for_each(|(_, value)| value.push('x')),
        ];
        // The last one alters nothing where there are no arguments.
        for alter in &alterations[..alterations.len() - usize::from(command.arguments.is_empty())] {
            assert_eq!(forged(asset, method, alter), Err(Unverified::Forged), "{}", vector.name);
        }
        assert_eq!(forged(asset, method, &|command| command.header.signature = None), Err(Unverified::Unsigned));
        for text in ["ed25519:", "ed25519:AAAA", "rsa:AAAA", "not base64"] {
            assert_eq!(
                forged(asset, method, &|command| command.header.signature = Some(text.into())),
                Err(Unverified::Unreadable),
                "{text}"
            );
        }
    }
}

#[test]
fn keys_are_read_as_openssl_writes_them_and_are_not_shown() {
    // openssl genpkey -algorithm ed25519
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    let key = PrivateKey::from_pem(pem).expect("a key");
    // RFC 8032, 7.1, test 1.
    assert_eq!(key.public().to_string(), "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    assert!(!format!("{key:?}").contains("nWGxne"), "{key:?}");
    for text in ["", "ed25519:AAAA", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert!(PrivateKey::from_pem(text).is_err() && text.parse::<PublicKey>().is_err(), "{text}");
    }
}
