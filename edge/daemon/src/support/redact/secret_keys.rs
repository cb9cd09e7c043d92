//! Which values of a config are secrets: by their keys, and by what stands where only the name of a file should.

use std::path::Path;

use super::scalars::{Role, Scalar};

/// Parts of keys whose values are secrets.
const WORDS: [&str; 14] = [
    "pass",
    "pwd",
    "secret",
    "token",
    ".pem",
    "apikey",
    "api_key",
    "api-key",
    "oauthbearer",
    "jaas",
    "login",
    "credential",
    "private",
    "ssl.key",
];
/// Sections that hold secrets. A single value in place of one is somebody's shorthand for what belongs into it …
const HOLDERS: [&str; 6] = ["identity", "sasl", "tls", "security", "status_access", "kafka"];
/// … and what they know: a key that they do not know may hold anything.
const KNOWN: [&str; 11] = ["user", "username", "mechanism", "policy", "mode", "trust", "brokers", "identity", "overrides", "tls", "sasl"];
/// Sections whose keys are names that people give to what a machine has: `bypass` is none that opens anything.
const NAMING: [&str; 4] = ["variables", "constants", "events", "methods"];

/// Whether the value must not be shown. `folder`: where relative paths begin.
pub(super) fn is_secret(scalar: &Scalar, folder: &Path) -> bool {
    if scalar.role == Role::Value && is_from_environment(&scalar.text) {
        return false;
    }
    let Some((last, above)) = scalar.path.split_last() else { return false };
    if above.iter().enumerate().any(|(at, key)| has_word(key) && !is_a_name(&scalar.path, at)) {
        return true;
    }
    match scalar.role {
        // Below a password there are no keys.
        Role::Key => has_word(last) && !is_a_name(&scalar.path, above.len()),
        Role::Value if names_a_file(last) => !is_a_file(&scalar.text, folder),
        Role::Value => {
            has_word(last) || is_holder(last) && last != "kafka" || above.last().is_some_and(|above| is_holder(above)) && !is_known(last)
        }
    }
}

fn has_word(key: &str) -> bool {
    let key = key.to_lowercase();
    !names_a_file(&key) && WORDS.iter().any(|word| key.contains(word))
}

fn is_holder(key: &str) -> bool {
    HOLDERS.contains(&key)
}

fn is_known(key: &str) -> bool {
    KNOWN.contains(&key)
}

fn is_a_name(path: &[String], at: usize) -> bool {
    at.checked_sub(1).and_then(|above| path.get(above)).is_some_and(|above| NAMING.contains(&above.as_str()))
}

fn names_a_file(key: &str) -> bool {
    matches!(key, "certificate" | "key" | "ca") || key.ends_with("_file") || key.ends_with(".location")
}

/// A file that is there. One that is not may be a password in the wrong place.
fn is_a_file(text: &str, folder: &Path) -> bool {
    service::secret::locate(folder, Path::new(text)).is_file()
}

/// `${NAME}` and nothing else: what it stands for is not in the file.
fn is_from_environment(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}
