//! Events into systemd's journal: each field under its own upper-case name (`DEVICE=`, `ASSET=`), and all of them on the line that people see
//! without asking for more. (tracing-journald has the fields alone: a plain `journalctl` then shows "the device answers" of nobody.)

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The layer that sends to the journal.
pub(crate) struct Journal {
    /// How the journal calls us.
    identifier: String,
}

/// Names and values, in the order in which they were given.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl Journal {
    pub(crate) fn new() -> Self {
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(|program| program.file_name()).unwrap_or_default();
        Self { identifier: name.to_string_lossy().into_owned() }
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (mut around, mut fields) = (Vec::new(), Fields::default());
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(Fields(of_span)) = span.extensions().get::<Fields>() {
                around.extend(of_span.iter().cloned());
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut entry = vec![
            format!("MESSAGE={}", line(&around, &fields.0)),
            format!("PRIORITY={}", priority(*metadata.level())),
            format!("SYSLOG_IDENTIFIER={}", self.identifier),
            format!("TARGET={}", metadata.target()),
        ];
        entry.extend(metadata.file().map(|file| format!("CODE_FILE={file}")));
        entry.extend(metadata.line().map(|line| format!("CODE_LINE={line}")));
        let own = around.iter().chain(&fields.0).filter(|(name, _)| *name != "message");
        entry.extend(own.map(|(name, value)| format!("{}={value}", key(name))));
        let entry: Vec<&str> = entry.iter().map(String::as_str).collect();
        // There is nobody left to tell.
        systemd::journal::send(&entry).ok();
    }
}

/// What a person reads: whose it is, what happened, and its circumstances.
fn line(around: &[(&'static str, String)], fields: &[(&'static str, String)]) -> String {
    let mut line = String::new();
    if let Some((_, device)) = around.iter().find(|(name, _)| *name == "device") {
        line.push_str(device);
        line.push_str(": ");
    }
    line.extend(fields.iter().filter(|(name, _)| *name == "message").map(|(_, message)| message.as_str()));
    for (name, value) in fields.iter().filter(|(name, _)| !["message", "message_id"].contains(name)) {
        // Writing into a string cannot fail.
        match value.contains(char::is_whitespace) {
            true => write!(line, " {name}={value:?}").ok(),
            false => write!(line, " {name}={value}").ok(),
        };
    }
    line
}

/// As the journal wants names: upper-case letters, digits and `_`.
fn key(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// syslog's numbers.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::{key, line};

    #[test]
    fn a_line_says_whose_it_is_what_happened_and_why() {
        let around = [("device", "press".to_owned()), ("asset", "PRESS-1".to_owned())];
        let fields = [
            ("message", "no value".to_owned()),
            ("message_id", "ce2bcae9".to_owned()),
            ("variable", "temp".to_owned()),
            ("span", "holding register 500".to_owned()),
        ];
        assert_eq!(line(&around, &fields), r#"press: no value variable=temp span="holding register 500""#);
        assert_eq!(line(&[], &fields[..1]), "no value");
        assert_eq!((key("device"), key("otel.kind")), ("DEVICE".to_owned(), "OTEL_KIND".to_owned()));
    }
}
