//! An event as a reader sees it: the JSON value of a record of the asset stream.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::{Kind, Timestamp};

/// The record's value, read. Field names are accepted in upper and lower case, as existing writers use both.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Data item of the asset.
    pub id: String,
    /// A number, string, boolean or array.
    pub value: Json,
    /// Semantic label; empty where the writer gave none.
    pub tag: String,
    /// The record's `TYPE`.
    pub kind: Kind,
    /// `timestamp`, `ingestion_timestamp`, `quality`, … Values that are not strings are kept as JSON text.
    pub attributes: BTreeMap<String, String>,
}

/// A record that is no event of the contract.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The bytes are no JSON object.
    #[error("the value is not a JSON object")]
    NotAnObject(#[source] Option<serde_json::Error>),
    /// A field is missing or has another type.
    #[error("field {field}: {problem}")]
    Field {
        /// The field's name, in the contract's case.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Event {
    /// Reads a record's value.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let json: Json = serde_json::from_slice(value).map_err(|e| Malformed::NotAnObject(Some(e)))?;
        let Json::Object(object) = json else { return Err(Malformed::NotAnObject(None)) };
        let mut event = Self { id: String::new(), value: Json::Null, tag: String::new(), kind: Kind::Events, attributes: BTreeMap::new() };
        let (mut has_id, mut has_value, mut has_kind) = (false, false, false);
        for (name, json) in object {
            if name.eq_ignore_ascii_case("ID") {
                event.id = string("ID", json)?;
                has_id = true;
            } else if name.eq_ignore_ascii_case("VALUE") {
                event.value = json;
                has_value = true;
            } else if name.eq_ignore_ascii_case("TAG") {
                event.tag = if json.is_null() { String::new() } else { string("TAG", json)? };
            } else if name.eq_ignore_ascii_case("TYPE") {
                let word = string("TYPE", json)?;
                event.kind = Kind::parse(&word)
                    .ok_or_else(|| Malformed::Field { field: "TYPE", problem: format!("{word:?} is no type of the contract") })?;
                has_kind = true;
            } else if name.eq_ignore_ascii_case("attributes") {
                event.attributes = attributes(json)?;
            }
        }
        for (field, there) in [("ID", has_id), ("VALUE", has_value), ("TYPE", has_kind)] {
            if !there {
                return Err(Malformed::Field { field, problem: "missing".into() });
            }
        }
        Ok(event)
    }

    /// When it was observed, by the device's clock.
    pub fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::parse(self.attributes.get("timestamp")?)
    }
}

fn string(field: &'static str, json: Json) -> Result<String, Malformed> {
    match json {
        Json::String(text) => Ok(text),
        other => Err(Malformed::Field { field, problem: format!("expected a string, found {other}") }),
    }
}

fn attributes(json: Json) -> Result<BTreeMap<String, String>, Malformed> {
    let Json::Object(object) = json else {
        if json.is_null() {
            return Ok(BTreeMap::new());
        }
        return Err(Malformed::Field { field: "attributes", problem: format!("expected an object, found {json}") });
    };
    let text = |json| match json {
        Json::String(text) => text,
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(name, json)| (name, text(json))).collect())
}
