//! Whether a device has what its device file names, before anything depends on it.

use gateway::{Finding, chain};

use crate::bus::{Buses, Member};
use crate::config::{Config, Variable};
use crate::connect::Payload;
use crate::decode::Decoder;
use crate::error::{Error, Exception, Remedy};
use crate::types::{Span, Table};

/// Reads each variable by itself, once.
///
/// # Errors
/// Why the device does not answer at all, in plain words.
pub async fn probe(config: &Config, buses: &Buses) -> Result<Vec<Finding>, String> {
    let member = buses.lease(config).map_err(|error| chain(&error))?.join();
    let (mut findings, mut heard) = (Vec::with_capacity(config.variables.len()), false);
    for variable in &config.variables {
        let answer = match ask(&member, config, variable.span).await {
            Ok(payload) => Ok(value(variable, payload)),
            Err(Error::Refused { exception, .. }) if exception.remedy() != Remedy::Reconnect => {
                Err(refused(&member, config, variable.span, exception).await)
            }
            // A device that answered other questions does not like this one.
            Err(error) if heard => Err(chain(&error)),
            Err(error) => return Err(chain(&error)),
        };
        heard = true;
        findings.push(Finding { item: variable.id.to_string(), address: variable.span.to_string(), answer });
    }
    Ok(findings)
}

async fn ask(member: &Member, config: &Config, span: Span) -> Result<Payload, Error> {
    let mut attempts = 0..config.timing.retries;
    loop {
        match member.ask(config.unit, span, &config.timing).await {
            Err(Error::Timeout { .. } | Error::Garbled { .. }) if attempts.next().is_some() => {}
            answer => return answer.map(|answer| answer.payload),
        }
    }
}

fn value(variable: &Variable, payload: Payload) -> String {
    let value = match payload {
        Payload::Bits(bits) => bits.first().map(|bit| Decoder::decode_bit(*bit).0),
        Payload::Registers(registers) => variable.decoder.decode(&registers).map(|(value, _)| value),
    };
    let mut json = Vec::new();
    // The answer is as long as the question, which is as long as the type.
    value.into_iter().for_each(|value| value.write(&mut json));
    let unit = variable.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
    format!("{}{unit}", String::from_utf8_lossy(&json))
}

/// What the refusal means, and what near it answers.
async fn refused(member: &Member, config: &Config, span: Span, exception: Exception) -> String {
    let mut text = format!("{exception}: {}", exception.advice());
    for (near, why) in neighbours(span) {
        if ask(member, config, near).await.is_ok() {
            text.push_str(&format!(". {near} answers: {why}"));
        }
    }
    text
}

/// What people mix up: the kind of address, and whether counting begins with 0 or 1.
fn neighbours(span: Span) -> Vec<(Span, &'static str)> {
    let table = match span.table() {
        Table::Coils => Table::DiscreteInputs,
        Table::DiscreteInputs => Table::Coils,
        Table::InputRegisters => Table::HoldingRegisters,
        Table::HoldingRegisters => Table::InputRegisters,
    };
    let other = Span::new(table, span.start(), span.count()).map(|near| (near, "is it that kind of address?"));
    let before = span.start().checked_sub(1).and_then(|start| Span::new(span.table(), start, span.count()));
    let before = before.map(|near| (near, "does the manual count from 1?"));
    let shorter = (span.count() > 1).then(|| Span::new(span.table(), span.start(), 1)).flatten();
    let shorter = shorter.map(|near| (near, "is the type right?"));
    other.into_iter().chain(before).chain(shorter).collect()
}
