//! What was told of each variable, and so what is worth telling now. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use asset_stream::{DataItem, Quality, Sample, Timestamp, Value};

use crate::bus::Answer;
use crate::config::{Config, Variable};
use crate::connect::Payload;
use crate::decode::{Decoder, as_number};
use crate::plan::Block;
use crate::types::{Report, Span};

/// The last that was told of each variable on this connection.
pub(crate) struct Told {
    variables: Vec<Option<Last>>,
    batch: u64,
}

/// What was told last, and in which batch.
#[derive(Clone)]
struct Last {
    value: Value,
    quality: Quality,
    batch: u64,
}

impl Told {
    /// Nothing of so many variables: the first reading of each is told, whatever it is.
    pub(crate) fn nothing(variables: usize) -> Self {
        Self { variables: vec![None; variables], batch: 0 }
    }

    /// The number of the last batch of samples that was made here.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    /// A batch reached nobody: the next reading of each variable that was told in it, and not again since, is told whatever it is.
    /// Returns their numbers.
    pub(crate) fn forget(&mut self, batch: u64) -> Vec<usize> {
        let of_batch = |last: &mut Option<Last>| last.take_if(|last| last.batch == batch).is_some();
        self.variables.iter_mut().enumerate().filter_map(|(number, last)| of_batch(last).then_some(number)).collect()
    }

    /// The samples that an answer gives, in the order of the addresses.
    pub(crate) fn answered(&mut self, config: &Config, items: &[Arc<DataItem>], block: &Block, answer: &Answer) -> Vec<Sample> {
        self.batch += 1;
        let mut samples = Vec::new();
        for (number, span) in &block.variables {
            let variable = &config.variables[*number];
            let Some((value, quality)) = read(&variable.decoder, &answer.payload, block.span, *span) else { continue };
            if !is_news(variable, self.variables[*number].as_ref(), &value, &quality) {
                continue;
            }
            self.variables[*number] = Some(Last { value: value.clone(), quality: quality.clone(), batch: self.batch });
            let attributes = variable.unit.iter().map(|unit| (Cow::Borrowed("unit"), unit.to_string())).collect();
            let (item, timestamp, ingested) = (items[*number].clone(), answer.at, answer.at);
            samples.push(Sample { item, value, quality, timestamp, ingested, attributes });
        }
        samples
    }

    /// The samples that say that there is no value; none for variables of which that was told.
    pub(crate) fn refused(&mut self, items: &[Arc<DataItem>], block: &Block, status: &str) -> Vec<Sample> {
        self.batch += 1;
        let now = Timestamp::now();
        let mut samples = Vec::new();
        for (number, _) in &block.variables {
            let bad = Quality::Bad(Cow::Owned(status.to_owned()));
            if self.variables[*number].as_ref().is_some_and(|last| last.quality == bad) {
                continue;
            }
            self.variables[*number] = Some(Last { value: Value::unavailable(), quality: bad, batch: self.batch });
            samples.push(Sample::bad(items[*number].clone(), status.to_owned(), now, now));
        }
        samples
    }
}

/// The value at `span` of an answer to a question for `block`.
pub(crate) fn read(decoder: &Decoder, payload: &Payload, block: Span, span: Span) -> Option<(Value, Quality)> {
    let first = usize::from(span.start().checked_sub(block.start())?);
    match payload {
        Payload::Bits(bits) => bits.get(first).map(|bit| Decoder::decode_bit(*bit)),
        Payload::Registers(registers) => decoder.decode(registers.get(first..first + usize::from(span.count()))?),
    }
}

fn is_news(variable: &Variable, told: Option<&Last>, value: &Value, quality: &Quality) -> bool {
    let Some(last) = told else { return true };
    variable.report == Report::Always || *quality != last.quality || differs(&last.value, value, variable.deadband)
}

/// Whether a value differs by more than the deadband.
fn differs(before: &Value, now: &Value, deadband: f64) -> bool {
    match (as_number(before), as_number(now)) {
        (Some(a), Some(b)) if deadband > 0.0 && a.is_finite() && b.is_finite() => (a - b).abs() > deadband,
        // Not a number is not equal to itself, but no news either.
        (Some(a), Some(b)) if a.is_nan() && b.is_nan() => false,
        _ => before != now,
    }
}

#[cfg(test)]
mod tests {
    use super::differs;
    use asset_stream::Value;

    #[test]
    fn a_change_is_news_beyond_the_deadband_only() {
        assert!(!differs(&Value::Float32(20.0), &Value::Float32(20.5), 0.5));
        assert!(differs(&Value::Float32(20.0), &Value::Float32(20.625), 0.5));
        assert!(differs(&Value::Int(-5), &Value::Int(5), 9.0));
        assert!(!differs(&Value::UInt(7), &Value::UInt(7), 0.0));
        assert!(differs(&Value::UInt(u64::MAX), &Value::UInt(u64::MAX - 1), 0.0), "integers are compared exactly");
    }

    #[test]
    fn numbers_that_are_none_are_told_when_they_come_and_go() {
        let (nan, one, endless) = (Value::Float64(f64::NAN), Value::Float64(1.0), Value::Float64(f64::INFINITY));
        for deadband in [0.0, 10.0] {
            assert!(differs(&one, &nan, deadband) && differs(&nan, &one, deadband) && differs(&one, &endless, deadband));
            assert!(!differs(&nan, &nan, deadband) && !differs(&endless, &endless, deadband));
        }
    }
}
