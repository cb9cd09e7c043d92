//! What was found, for programs.

use gateway_modbus::{Endpoint, Left, Most, Payload, Span, Table, Why};
use serde_json::{Value as Json, json};

use super::Unit;

/// Everything, unit by unit.
pub(super) fn text(endpoint: &Endpoint, units: &[Unit], notes: &[String]) -> serde_json::Result<String> {
    let units: Vec<_> = units.iter().map(|unit| unit_json(endpoint, unit)).collect();
    Ok(serde_json::to_string_pretty(&json!({"endpoint": endpoint.to_string(), "units": units, "notes": notes}))? + "\n")
}

fn unit_json(endpoint: &Endpoint, unit: &Unit) -> Json {
    let most = |most: Option<Most>| match most {
        Some(Most::Exactly(count)) => json!({"count": count, "more_is_refused": true}),
        Some(Most::AtLeast(count)) => json!({"count": count, "more_is_refused": false}),
        None => Json::Null,
    };
    let range = |span: &Span| json!({"table": span.table().key(), "first": span.start(), "last": span.end() - 1});
    match &unit.found {
        Err(why) => json!({"unit": unit.id, "stopped": why}),
        Ok(mapped) => json!({
            "unit": unit.id,
            "endpoint": endpoint.to_string(),
            "ranges": mapped.ranges.iter().map(range).collect::<Vec<_>>(),
            "left": mapped.left.iter().map(left).collect::<Vec<_>>(),
            "contents": mapped.contents.iter().map(contents).collect::<Vec<_>>(),
            "most_registers": most(mapped.most_registers),
            "most_bits": most(mapped.most_bits),
            "word_order": mapped.word_order.as_ref().map(|guess| json!({"order": guess.order, "sensible": guess.sensible, "examples": guess.examples})),
        }),
    }
}

fn left(left: &Left) -> Json {
    let why = match left.why {
        Why::Silent => "silent",
        Why::Busy => "busy",
        Why::Stopped => "stopped",
    };
    json!({"table": left.table.key(), "since": left.since, "why": why})
}

fn contents((table, first, held): &(Table, u16, Payload)) -> Json {
    match held {
        Payload::Registers(registers) => json!({"table": table.key(), "first": first, "registers": registers}),
        Payload::Bits(bits) => json!({"table": table.key(), "first": first, "bits": bits}),
    }
}
