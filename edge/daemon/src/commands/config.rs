//! The section `[commands]` of edge.toml.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use asset_stream::command::signature::PublicKey;
use asset_stream::topics;
use serde::{Deserialize, Deserializer, de::Error as _};
use service::units;

use super::pattern::Pattern;
use super::terms::Range;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The topic of commands.
    pub(crate) topic: String,
    /// From its header's time on, a command without `expires_at` is good for so long.
    #[serde(deserialize_with = "units::duration")]
    pub(crate) default_deadline: Duration,
    /// A command whose deadline lies further ahead is rejected; so long repeats of a command are known.
    #[serde(deserialize_with = "units::duration")]
    pub(crate) longest_deadline: Duration,
    /// What happens to commands while the edge's clock is not synchronised.
    pub(crate) untrusted_clock: UntrustedClock,
    /// So many commands may wait for one device.
    pub(crate) queue: usize,
    /// Who has which keys: a public key as text, or the file that holds it; or several of them.
    pub(crate) keys: BTreeMap<String, Keys>,
    /// Who may do what. What no rule allows is rejected.
    pub(crate) allow: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            topic: topics::COMMANDS.into(),
            default_deadline: Duration::from_secs(30),
            longest_deadline: Duration::from_secs(24 * 3600),
            untrusted_clock: UntrustedClock::Refuse,
            queue: 100,
            keys: BTreeMap::new(),
            allow: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UntrustedClock {
    /// They are rejected: whether a deadline has passed cannot be known.
    Refuse,
    /// They are executed as if the clock were right.
    Execute,
}

/// What is wrong, behind its key in the file.
type Told = (String, String);

/// One key or several.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(crate) enum Keys {
    One(String),
    Several(Vec<String>),
}

/// What some senders may do.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) senders: Vec<Pattern>,
    #[serde(default = "anything")]
    pub(crate) assets: Vec<Pattern>,
    #[serde(default = "anything")]
    pub(crate) methods: Vec<Pattern>,
    /// Numbers that arguments may have.
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Limits>,
    /// How often each of the senders may ask.
    #[serde(default, deserialize_with = "rate")]
    pub(crate) rate: Option<Rate>,
    /// Whether a signature is needed.
    #[serde(default)]
    pub(crate) signature: Signature,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Signature {
    /// Unsigned commands are not covered by the rule.
    #[default]
    Required,
    /// They are: whoever can write into Kafka is believed to be who he says.
    Optional,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    min: Option<f64>,
    max: Option<f64>,
}

impl From<Limits> for Range {
    fn from(Limits { min, max }: Limits) -> Self {
        Self { min, max }
    }
}

/// So many in so long a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) time: Duration,
}

fn anything() -> Vec<Pattern> {
    vec![Pattern::anything()]
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Rate>, D::Error> {
    const EXPECTED: &str = "expected so many in a time, such as \"10 / min\" or \"1 / 5 s\"";
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let wrong = || D::Error::custom(format!("{EXPECTED}, found {text:?}"));
    let (count, time) = text.split_once('/').ok_or_else(wrong)?;
    let count = count.trim().parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    let time = time.trim();
    let one = if time.starts_with(|c: char| c.is_ascii_digit()) { time.to_owned() } else { format!("1 {time}") };
    let time = units::parse_duration(&one).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)?;
    Ok(Some(Rate { count, time }))
}

impl Config {
    /// What cannot work, with its key below `commands`.
    pub(crate) fn problems(&self) -> Vec<Told> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, key: &str, problem: &str| {
            if !holds {
                problems.push((key.to_owned(), problem.to_owned()));
            }
        };
        expect(!self.topic.is_empty(), "topic", "is empty");
        expect(!self.default_deadline.is_zero(), "default_deadline", "every command would come too late");
        expect(self.default_deadline <= self.longest_deadline, "default_deadline", "must not be longer than commands.longest_deadline");
        expect(
            self.longest_deadline <= Duration::from_secs(30 * 86_400),
            "longest_deadline",
            "too long: at most 30 days, for so long each command is remembered",
        );
        expect((1..=10_000).contains(&self.queue), "queue", "must be 1 to 10000 commands");
        for (i, rule) in self.allow.iter().enumerate() {
            expect(!rule.senders.is_empty(), &format!("allow[{i}].senders"), "allows nobody: name senders, or patterns such as \"HMI-*\"");
        }
        problems.extend(self.read_keys().err().into_iter().flatten());
        problems
    }

    /// Makes relative paths of keys relative to the config's folder.
    pub(crate) fn locate(&mut self, folder: &std::path::Path) {
        let locate = |text: &mut String| {
            if text.parse::<PublicKey>().is_err() {
                *text = folder.join(&*text).to_string_lossy().into_owned();
            }
        };
        for keys in self.keys.values_mut() {
            match keys {
                Keys::One(text) => locate(text),
                Keys::Several(texts) => texts.iter_mut().for_each(locate),
            }
        }
    }

    /// Who has which keys; or what is wrong with them, with their key in the file.
    pub(crate) fn read_keys(&self) -> Result<BTreeMap<String, Vec<PublicKey>>, Vec<Told>> {
        let mut problems = Vec::new();
        let mut read = BTreeMap::new();
        for (sender, keys) in &self.keys {
            let texts = match keys {
                Keys::One(text) => std::slice::from_ref(text),
                Keys::Several(texts) => texts,
            };
            let mut of_sender = Vec::new();
            for text in texts {
                match key(text) {
                    Ok(mut keys) => of_sender.append(&mut keys),
                    Err(why) => problems.push((format!("keys.{sender}"), why)),
                }
            }
            read.insert(sender.clone(), of_sender);
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }
}

/// The key, or those in the file, one a line.
fn key(text: &str) -> Result<Vec<PublicKey>, String> {
    const FORM: &str =
        "expected `ed25519:` and 32 bytes in base64, or a file with such lines; docs/commands.md says how to get it from a private key";
    if let Ok(key) = text.parse::<PublicKey>() {
        return Ok(vec![key]);
    }
    let file = PathBuf::from(text);
    let read = asset_stream::document::read(&file).map_err(|error| format!("{text} cannot be read as a key's file: {error}; {FORM}"))?;
    let lines = String::from_utf8_lossy(&read)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    if lines.is_empty() {
        return Err(format!("{text} holds no key; {FORM}"));
    }
    lines.iter().enumerate().map(|(i, line)| line.parse::<PublicKey>().map_err(|_| format!("{text}, line {}: {FORM}", i + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Config, Rate};
    use std::time::Duration;

    fn rate(text: &str) -> Result<Option<Rate>, String> {
        let text = format!("[[allow]]\nsenders = [\"a\"]\nrate = \"{text}\"\n");
        toml::from_str::<Config>(&text).map(|config| config.allow[0].rate).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn rates_are_counts_in_a_time() {
        assert_eq!(rate("10/min"), Ok(Some(Rate { count: 10, time: Duration::from_secs(60) })));
        assert_eq!(rate("1 / 5 s"), Ok(Some(Rate { count: 1, time: Duration::from_secs(5) })));
        for wrong in ["", "10", "0/s", "1/0 s", "-1/s", "1/fortnight", "x/s"] {
            assert!(rate(wrong).is_err_and(|error| error.contains("10 / min")), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_work_is_told_with_its_key() {
        let text =
            "default_deadline = \"2 h\"\nlongest_deadline = \"1 h\"\nqueue = 0\n[[allow]]\nsenders = []\n[keys]\nA = \"no-such.pub\"\n";
        let told = toml::from_str::<Config>(text).expect("readable").problems();
        let keys: Vec<&str> = told.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["default_deadline", "queue", "allow[0].senders", "keys.A"], "{told:?}");
    }
}
