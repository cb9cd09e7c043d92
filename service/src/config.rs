//! TOML files whose errors name file, line and key, all of them at once.
//!
//! serde stops at the first error. So the part that it complains about is noted, taken out of the parsed file, and the rest is tried
//! again, until nothing is left to complain about: a config of any shape reports all its problems without code of its own.

mod words;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::secret;

/// One thing that is wrong in a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The key, e.g. `kafka.tls.ca`; empty for errors of TOML itself.
    pub key: String,
    /// What is wrong and what is expected.
    pub message: String,
}

impl Problem {
    /// A problem of a file that could be read, at its key, or at the nearest table around it where the key is not there.
    pub fn of(file: &Path, key: impl Into<String>, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let (tree, _) = DeTable::parse_recoverable(&text);
        match span_of(tree.get_ref(), &key) {
            Some(span) => problem(file, &text, Some(span), key, &message),
            None => Self { file: file.to_owned(), line: 0, column: 0, key, message },
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads a config file, or says everything that is wrong with it, in the order of the file.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<T, Vec<Problem>> {
    let text = secret::expect_regular(file).and_then(|()| std::fs::read_to_string(file)).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; run this as root, or as a member of the group that its folder belongs to: adduser USER GROUP, and log in again"
            }
            _ => "",
        };
        vec![Problem { file: file.to_owned(), line: 0, column: 0, key: String::new(), message: format!("cannot be read: {error}{advice}") }]
    })?;
    parse(file, &text)
}

/// Reads the text of a config file; `file` is for the errors.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Vec<Problem>> {
    let (mut tree, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        return Err(syntax.iter().map(|e| problem(file, text, e.span(), String::new(), e.message())).collect());
    }
    let (mut problems, mut removed) = (Vec::new(), Vec::new());
    loop {
        let error = match T::deserialize(Deserializer::from(tree.clone())) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let path = path_to(tree.get_ref(), &span);
        let missing = words::missing_field(error.message()).map(|field| join(&path, field));
        // A key is not missing if it was taken out for being wrong.
        if missing.as_ref().is_none_or(|key| !removed.contains(key)) {
            let key = missing.clone().unwrap_or_else(|| path.join("."));
            let message = words::in_words(&key, error.message());
            problems.push(problem(file, text, Some(span), key, &message));
        }
        if path.is_empty() {
            break;
        }
        removed.push(path.join("."));
        remove(tree.get_mut(), &path);
    }
    problems.sort_by_key(|p| (p.line, p.column));
    Err(problems)
}

fn problem(file: &Path, text: &str, span: Option<Range<usize>>, key: String, message: &str) -> Problem {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or("");
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Problem {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key,
        message: message.trim_end().replace('\n', " "),
    }
}

/// Where the value of a key stands, or the header of the innermost table on the way to it.
fn span_of(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    // A key with dots of its own is written in quotes.
    let quoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    let (first, rest) = quoted.map_or_else(|| key.split_once('.').unwrap_or((key, "")), |key| (key, ""));
    let (name, value) = table.iter().find(|(name, _)| *name.get_ref() == first)?;
    match value.get_ref() {
        DeValue::Table(inner) => span_of(inner, rest).or(Some(name.span())),
        _ => Some(value.span()),
    }
}

fn join(path: &[String], field: &str) -> String {
    path.iter().map(String::as_str).chain([field]).collect::<Vec<_>>().join(".")
}

/// The keys that lead to the smallest entry around `span`.
fn path_to(table: &DeTable<'_>, span: &Range<usize>) -> Vec<String> {
    for (key, value) in table {
        let inside = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
        if inside(key.span()) {
            // The key itself: an unknown one.
            return vec![key.get_ref().to_string()];
        }
        let below = match value.get_ref() {
            // A table's own span is its header alone, so its entries are searched whatever it is.
            DeValue::Table(table) => path_to(table, span),
            DeValue::Array(values) => {
                let tables = values.iter().filter_map(|value| value.get_ref().as_table());
                tables.map(|table| path_to(table, span)).find(|path| !path.is_empty()).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        if !below.is_empty() && value.get_ref().is_table() {
            return [vec![key.get_ref().to_string()], below].concat();
        }
        // A problem inside an array takes the whole array out: its place in it is in the line number.
        if !below.is_empty() || inside(value.span()) {
            return vec![key.get_ref().to_string()];
        }
    }
    Vec::new()
}

fn remove(table: &mut DeTable<'_>, path: &[String]) {
    let [first, rest @ ..] = path else { return };
    let Some(key) = table.keys().find(|key| *key.get_ref() == first.as_str()).cloned() else { return };
    if rest.is_empty() {
        table.remove(&key);
    } else if let Some(DeValue::Table(inner)) = table.get_mut(&key).map(Spanned::get_mut) {
        remove(inner, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use serde::Deserialize;
    use std::path::Path;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors matter here")]
    struct Config {
        name: String,
        log: Log,
        kafka: Option<Kafka>,
        clusters: Option<Vec<Kafka>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors matter here")]
    struct Log {
        dir: String,
        #[serde(deserialize_with = "crate::units::size")]
        size: u64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors matter here")]
    struct Kafka {
        brokers: Vec<String>,
        window: u32,
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = parse::<Config>(Path::new("edge.toml"), text).expect_err("the config is bad");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_problems_are_told_with_line_and_key() {
        let text = "name = 5\n\n[log]\ndir = \"/var\"\nsize = \"2 GiX\"\nsize_max = 3\n\n[kafka]\nwindow = -1\n";
        assert_eq!(
            problems(text),
            [
                "edge.toml:1:8: name: expected a text in quotes, found 5",
                "edge.toml:5:8: log.size: expected a size such as \"512 KiB\", \"64 MiB\" or \"2 GB\", found \"2 GiX\"",
                "edge.toml:6:1: log.size_max: unknown key `size_max`; known here: dir, size",
                "edge.toml:8:1: kafka.brokers: `brokers` is missing",
                "edge.toml:9:10: kafka.window: expected a whole number from 0 to 4294967295, found -1",
            ]
        );
    }

    #[test]
    fn problems_inside_arrays_of_tables_are_told_with_their_line() {
        let text = "name = \"a\"\nlog = {dir = \"/\", size = \"1 B\"}\n[[clusters]]\nbrokers = []\nwindow = 1\n[[clusters]]\nbrokers = 7\nwindow = 1\n";
        assert_eq!(problems(text), ["edge.toml:7:11: clusters: expected a list, found 7"]);
    }

    #[test]
    fn what_may_be_a_secret_is_not_told() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only the errors matter here")]
        struct Secretive {
            kafka: Option<crate::kafka::Config>,
            password: Option<u8>,
            #[serde(default, deserialize_with = "crate::units::size")]
            token_size: u64,
        }
        for text in [
            "kafka = {brokers = [], sasl = \"me:hush\"}",
            "kafka = {brokers = [], tls = \"hush, expected hush\"}",
            "kafka = {brokers = \"ssl://me:hush@a\"}",
            "kafka = {brokers = [], sasl = {mechanism = \"PLAIN\", username = \"a\", password_file = [\"hush\"]}}",
            "kafka = {brokers = [], overrides = {\"ssl.key.password\" = [\"hush\"]}}",
            "password = \"hush\"",
            "token_size = \"hush\"",
        ] {
            let told = parse::<Secretive>(Path::new("edge.toml"), text).expect_err("the config is bad");
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            assert!(!told[0].contains("hush") && told[0].contains("expected "), "{told:?}");
        }
        let told = parse::<Secretive>(Path::new("edge.toml"), "kafka = {brokers = [], sasl = {mechanism = \"PLAYN\"}}").expect_err("bad");
        assert!(told.iter().any(|problem| problem.message.ends_with("found \"PLAYN\"")), "{told:?}");
    }

    #[test]
    fn a_file_that_is_no_toml_says_where() {
        let told = problems("name = \"a\nlog = 1\n");
        assert!(told[0].starts_with("edge.toml:1:"), "{told:?}");
    }

    #[test]
    fn an_empty_file_names_the_first_missing_key() {
        assert_eq!(problems(""), ["edge.toml:1:1: name: `name` is missing"]);
    }
}
