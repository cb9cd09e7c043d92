//! The section `commands` of a device: what has to hold for a command before, in and after the action.
//!
//! ```yaml
//! commands:
//!   Open_Valve:                                                   # a method's safe name, or a variable with `access_level: rw`
//!     arguments: {speed: {min: 0, max: 100}}
//!     precondition: {variable: door, equals: closed}              # read just before the action; a list for several
//!     confirm: {variable: valve, equals: open, within: 5}         # read after it, for at most so many seconds
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use asset_stream::Value;
use asset_stream::command::status::Reason;
use asset_stream::document::{FromNode, Section};
use gateway::{Refusal, Request};

/// How long a confirmation is waited for if the file does not say.
const WITHIN: f64 = 5.0;

/// The terms of one device, by method or variable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms(HashMap<String, Term>);

/// What holds for one method or variable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Term {
    arguments: BTreeMap<String, Range>,
    /// What has to hold just before the action.
    pub(crate) preconditions: Vec<Condition>,
    /// What proves the action.
    pub(crate) confirm: Option<Confirm>,
}

/// Numbers that are allowed, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Range {
    /// Why the number that `text` is to be lies outside, or is none.
    pub(crate) fn refusal(&self, text: &str) -> Option<(Reason, String)> {
        let Some(number) = text.trim().parse::<f64>().ok().filter(|number| number.is_finite()) else {
            return Some((Reason::WrongType, format!("{text:?} is no number, and has to lie in a range")));
        };
        let below = self.min.filter(|min| number < *min).map(|min| format!("{number} is below {min}"));
        let above = self.max.filter(|max| number > *max).map(|max| format!("{number} is above {max}"));
        below.or(above).map(|why| (Reason::OutOfRange, why))
    }
}

/// A value that a variable has to have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    /// Of the device file.
    pub(crate) variable: String,
    expected: Expected,
}

#[derive(Clone, Debug, PartialEq)]
enum Expected {
    Equals(String),
    /// The value that the command gives to this argument.
    Argument(String),
    Within(Range),
}

/// What proves an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Confirm {
    pub(crate) condition: Condition,
    /// For so long it may take.
    pub(crate) within: Duration,
}

impl Condition {
    /// Whether the value is as expected of this request.
    pub(crate) fn holds(&self, value: &Value, request: &Request) -> bool {
        match &self.expected {
            Expected::Equals(text) => equals(value, text),
            Expected::Argument(name) => {
                request.arguments.iter().find(|(other, _)| other == name).is_some_and(|(_, text)| equals(value, text))
            }
            Expected::Within(range) => number(value).is_some_and(|number| range.refusal(&number.to_string()).is_none()),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variable = &self.variable;
        match &self.expected {
            Expected::Equals(text) => write!(f, "{variable} = {text}"),
            Expected::Argument(name) => write!(f, "{variable} = the argument {name}"),
            Expected::Within(Range { min: Some(min), max: Some(max) }) => write!(f, "{variable} from {min} to {max}"),
            Expected::Within(Range { min: Some(min), .. }) => write!(f, "{variable} at least {min}"),
            Expected::Within(Range { max, .. }) => write!(f, "{variable} at most {}", max.unwrap_or(f64::INFINITY)),
        }
    }
}

/// Values are compared as numbers where both are some: 24.30 is 24.3.
fn equals(value: &Value, text: &str) -> bool {
    let expected = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match (value, number(value), expected) {
        (Value::Float32(is), _, Some(expected)) => *is == expected as f32,
        (_, Some(is), Some(expected)) if is.abs() < 9e15 => is == expected,
        _ => as_text(value) == text,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(n) => Some(*n as f64),
        Value::UInt(n) => Some(*n as f64),
        Value::Float32(n) => Some(f64::from(*n)),
        Value::Float64(n) => Some(*n),
        Value::Bool(_) | Value::Text(_) | Value::Array(_) => None,
    }
}

/// The value as a person would write it.
pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        other => {
            let mut json = Vec::new();
            other.write(&mut json);
            String::from_utf8_lossy(&json).into_owned()
        }
    }
}

impl Terms {
    /// Reads the section. Problems are recorded at their places.
    pub(crate) fn read(commands: Vec<(String, Section<'_>)>) -> Self {
        Self(commands.into_iter().map(|(name, section)| (name, term(section))).collect())
    }

    /// What holds for a method; `None`: nothing beyond what the device itself asks for.
    pub(crate) fn of(&self, method: &str) -> Option<&Term> {
        self.0.get(method)
    }

    /// Whether the request's arguments lie in their ranges.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Refusal> {
        let Some(term) = self.of(&request.method) else { return Ok(()) };
        for (name, range) in &term.arguments {
            let Some((_, text)) = request.arguments.iter().find(|(other, _)| other == name) else { continue };
            if let Some((reason, why)) = range.refusal(text) {
                return Err(Refusal { reason, detail: format!("the argument {name}: {why}; the device file allows no more") });
            }
        }
        Ok(())
    }

    /// The variables that are read for it.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(method, term)| {
            let confirmed = term.confirm.iter().map(|confirm| &confirm.condition);
            term.preconditions.iter().chain(confirmed).map(move |condition| (method.as_str(), condition.variable.as_str()))
        })
    }
}

fn term(mut section: Section<'_>) -> Term {
    let arguments = section.entries("arguments").into_iter().map(|(name, mut section)| {
        let range = range(&mut section);
        if range == Range::default() {
            section.problem("", "expected `min`, `max`, or both");
        }
        section.finish();
        (name, range)
    });
    let arguments = arguments.collect();
    let preconditions = match section.node("precondition") {
        None => Vec::new(),
        Some(node) => {
            let listed = node.items();
            let is_list = listed.is_some();
            let nodes = listed.unwrap_or_else(|| vec![node]);
            nodes
                .into_iter()
                .filter_map(|node| match node.section() {
                    Some(mut section) => {
                        let read = condition(&mut section);
                        section.finish();
                        read
                    }
                    None => {
                        let form = if is_list { "a list of" } else { "" };
                        node.problem(format!("expected {form} `{{variable: …, equals: …}}`, found {}", node.found()));
                        None
                    }
                })
                .collect()
        }
    };
    let confirm = section.section("confirm").and_then(|mut section| {
        let within: f64 = section.or("within", WITHIN);
        if !(0.0..=3600.0).contains(&within) {
            section.problem("within", "expected seconds, 0 to 3600");
        }
        let condition = condition(&mut section);
        section.finish();
        Some(Confirm { condition: condition?, within: Duration::try_from_secs_f64(within).unwrap_or_default() })
    });
    section.finish();
    Term { arguments, preconditions, confirm }
}

fn range(section: &mut Section<'_>) -> Range {
    let range = Range { min: section.optional("min"), max: section.optional("max") };
    if range.min.zip(range.max).is_some_and(|(min, max)| min > max) {
        section.problem("min", "is above `max`: nothing would be allowed");
    }
    range
}

fn condition(section: &mut Section<'_>) -> Option<Condition> {
    let variable = section.required("variable");
    let equals: Option<Scalar> = section.optional("equals");
    let argument = section.optional("equals_argument");
    let range = range(section);
    let range = (range != Range::default()).then_some(Expected::Within(range));
    let mut expected: Vec<Expected> =
        [equals.map(|Scalar(text)| Expected::Equals(text)), argument.map(Expected::Argument), range].into_iter().flatten().collect();
    if expected.len() != 1 {
        section.problem("", "expected one of `equals`, `equals_argument` and `min`/`max`");
        return None;
    }
    Some(Condition { variable: variable?, expected: expected.pop()? })
}

/// A text, number or boolean, as it is written.
struct Scalar(String);

impl FromNode for Scalar {
    fn from_node(node: &asset_stream::document::Node<'_>) -> Result<Self, String> {
        node.text().map(|text| Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Terms, as_text};
    use asset_stream::Value;
    use asset_stream::command::status::Reason;
    use asset_stream::device_file::DeviceFiles;
    use asset_stream::document::{Environment, Problems};
    use gateway::Request;

    fn read(commands: &str) -> (Terms, Vec<String>) {
        let text = format!("devices:\n  d:\n    uuid: D\n    commands:\n{commands}    connector: {{type: x}}\n");
        let files = DeviceFiles::parse([("d.yaml".into(), text.into_bytes())], Environment::empty());
        let problems = Problems::new();
        let terms = files.devices(&problems).into_iter().next().map(|device| Terms::read(device.commands)).unwrap_or_default();
        (terms, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    fn request(value: &str) -> Request {
        Request { method: "set".into(), arguments: vec![("value".into(), value.into())] }
    }

    #[test]
    fn arguments_outside_of_their_range_are_refused_with_the_reason() {
        let (terms, problems) = read("      set:\n        arguments: {value: {min: -5, max: 90.5}}\n");
        assert_eq!(problems, [""; 0]);
        for (value, reason) in [
            ("-5", None),
            ("90.5", None),
            ("90.6", Some(Reason::OutOfRange)),
            ("-6", Some(Reason::OutOfRange)),
            ("x", Some(Reason::WrongType)),
        ] {
            assert_eq!(terms.check(&request(value)).err().map(|refusal| refusal.reason), reason, "{value}");
        }
        assert!(terms.check(&request("NaN")).is_err(), "NaN lies in no range");
        assert!(terms.check(&Request { method: "other".into(), arguments: Vec::new() }).is_ok());
    }

    #[test]
    fn a_condition_compares_numbers_as_numbers_and_texts_as_texts() {
        let (terms, problems) = read(
            "      set:\n        precondition:\n          - {variable: door, equals: closed}\n          - {variable: level, min: 2}\n        confirm: {variable: sp, equals_argument: value, within: 1.5}\n",
        );
        assert_eq!(problems, [""; 0]);
        let term = terms.of("set").expect("there");
        let [door, level] = &term.preconditions[..] else { panic!("two conditions: {term:?}") };
        assert!(door.holds(&"closed".into(), &request("1")) && !door.holds(&"open".into(), &request("1")));
        assert!(level.holds(&Value::UInt(2), &request("1")) && !level.holds(&Value::Float32(1.9), &request("1")));
        assert!(!level.holds(&Value::unavailable(), &request("1")));
        let confirm = term.confirm.as_ref().expect("there");
        assert_eq!(confirm.within.as_millis(), 1500);
        for (value, asked, holds) in [
            (Value::Float32(24.3), "24.30", true),
            (Value::Int(-3), "-3.0", true),
            (Value::Bool(true), "true", true),
            (Value::UInt(u64::MAX), "18446744073709551615", true),
            (Value::UInt(u64::MAX - 1), "18446744073709551615", false),
            (Value::Float64(24.4), "24.3", false),
        ] {
            assert_eq!(confirm.condition.holds(&value, &request(asked)), holds, "{} and {asked}", as_text(&value));
        }
        let mut read: Vec<_> = terms.variables().collect();
        read.sort_unstable();
        assert_eq!(read, [("set", "door"), ("set", "level"), ("set", "sp")]);
    }

    #[test]
    fn terms_that_mean_nothing_are_told_at_their_line() {
        let (_, problems) = read(
            "      a: {arguments: {x: {}}}\n      b: {precondition: {variable: v}}\n      c: {confirm: {equals: 1}}\n      d: {arguments: {x: {min: 2, max: 1}}, oops: 1}\n",
        );
        for (line, words) in
            [("5:", "`min`, `max`, or both"), ("6:", "one of `equals`"), ("7:", "variable"), ("8:", "above `max`"), ("8:", "oops")]
        {
            assert!(
                problems.iter().any(|p| p.starts_with(&format!("d.yaml:{line}")) && p.contains(words)),
                "{words} at {line} in {problems:#?}"
            );
        }
    }
}
