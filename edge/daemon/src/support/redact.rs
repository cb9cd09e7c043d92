//! Config files for somebody else's eyes. What is a secret is decided on what the parser understood, so that no way of writing hides one:
//! escapes, quotes, lists, texts over several lines. A file of which that cannot be said is left out as a whole.

mod lines;
mod scalars;
mod secret_keys;
mod toml_file;
mod yaml_file;

use std::path::Path;

pub(super) use lines::without_secrets;
use scalars::{Role, Scalar};

const INSTEAD: &str = "\"***\"";
/// Shorter ones are parts of too many words.
const SHORTEST: usize = 3;

/// Why a file cannot be shown.
type Unclear = &'static str;

/// The secrets of the files that were shown: they may have come into other texts too, e.g. into an error that names a file.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The text of a config file without values of secrets and without comments, or a sentence in its place. `folder`: where its paths begin.
    pub(super) fn hide(&mut self, file: &Path, bytes: &[u8], folder: &Path) -> String {
        match self.shown(file, bytes, folder) {
            Ok(text) => text,
            Err(why) => format!("left out: {why}, so it cannot be said where its secrets are\n"),
        }
    }

    fn shown(&mut self, file: &Path, bytes: &[u8], folder: &Path) -> Result<String, Unclear> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8")?;
        let is_toml = file.extension().is_some_and(|ending| ending == "toml");
        let parsed = if is_toml { toml_file::scalars(text) } else { yaml_file::scalars(text) };
        // What can be told of an unclear file is told, so that other texts are free of it.
        let secrets: Vec<_> = parsed.scalars.iter().filter(|scalar| secret_keys::is_secret(scalar, folder)).collect();
        let known = secrets.iter().map(|scalar| scalar.text.clone());
        self.0.extend(known.filter(|text| text.chars().count() >= SHORTEST && !self.0.contains(text)).collect::<Vec<_>>());
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
        if let Some(unclear) = parsed.unclear {
            return Err(unclear);
        }
        splice(text, &parsed.scalars, &secrets)
    }

    /// A text of another program, or of ours, without the secrets that are known.
    pub(super) fn hide_in(&self, text: &str) -> String {
        let without = without_secrets(text);
        self.0.iter().fold(without, |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// The text with `***` in place of secrets, and without comments: nobody knows what is in them.
fn splice(text: &str, scalars: &[Scalar], secrets: &[&Scalar]) -> Result<String, Unclear> {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for scalar in scalars {
        let (Some(between), Some(written)) = (text.get(at..scalar.span.start), text.get(scalar.span.clone())) else {
            return Err("its values overlap");
        };
        out.push_str(&without_comments(between));
        at = scalar.span.end;
        if secrets.contains(&scalar) {
            out.push_str(INSTEAD);
        } else if scalar.role == Role::Value && lines::has_login(&scalar.text) {
            let shown = lines::without_login(&scalar.text);
            out.push_str(&toml::Value::String(shown).to_string());
        } else {
            out.push_str(written);
        }
    }
    out.push_str(&without_comments(text.get(at..).unwrap_or_default()));
    Ok(out)
}

/// What stands between values: no text in it can hold a `#` that is none of a comment.
fn without_comments(between: &str) -> String {
    let line = |line: &str| match line.split_once('#') {
        Some((before, comment)) => format!("{before}{}", if comment.ends_with('\n') { "\n" } else { "" }),
        None => line.to_owned(),
    };
    between.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests;
