//! Where `${NAME}` is looked up, and where paths lead.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;
type Locate = dyn Fn(&Path) -> PathBuf + Send + Sync;

/// What `${NAME}` in a value stands for, and where a path leads.
pub struct Environment {
    variable: Box<Lookup>,
    locate: Box<Locate>,
}

impl Environment {
    /// The environment of this process. A variable that is not UTF-8 counts as missing.
    pub fn process() -> Self {
        Self::from_fn(|name| std::env::var(name).ok())
    }

    /// No variable at all.
    pub fn empty() -> Self {
        Self::from_fn(|_| None)
    }

    /// Any other source. Paths lead where they say.
    pub fn from_fn(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { variable: Box::new(lookup), locate: Box::new(Path::to_path_buf) }
    }

    /// Where paths lead, e.g. relative ones.
    #[must_use]
    pub fn with_paths(self, locate: impl Fn(&Path) -> PathBuf + Send + Sync + 'static) -> Self {
        Self { locate: Box::new(locate), ..self }
    }

    pub(super) fn locate(&self, path: &Path) -> PathBuf {
        (self.locate)(path)
    }

    /// Replaces each `${NAME}`; `$${` stays as `${`. The error names what is wrong with the first that cannot be replaced.
    pub(super) fn expand<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, String> {
        if !text.contains("${") {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len() + 32);
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if rest[..start].ends_with('$') {
                out.push_str(&rest[..start - 1]);
                out.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let end = after.find('}').ok_or("`${` without `}`; write `$${` for the characters themselves")?;
            let name = &after[..end];
            if !is_name(name) {
                let name = super::shorten(name, 40);
                return Err(format!(
                    "`${{{name}}}` is no name of a variable (letters, digits, `_`); write `$${{` for the characters themselves"
                ));
            }
            let value = (self.variable)(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
            out.push_str(&value);
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(..)")
    }
}

fn is_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.len() <= 255 && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(word)
}
