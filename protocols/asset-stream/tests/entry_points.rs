//! What the fuzz targets try, tried with generated input on any toolchain: bytes at random, and words that lead deeper.

#[path = "../fuzz/entry_points.rs"]
mod entry_points;

use proptest::prelude::*;

/// Texts made of the words of a format.
fn text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(words), 0..40).prop_map(|words| words.concat())
}

/// More with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"ID\":",
    "\"id\":\"a\"",
    "\"VALUE\":",
    "1.50",
    "-1e9",
    "null",
    "true",
    "\"TYPE\":\"Events\"",
    ",",
    ":",
    "\"attributes\":{",
    "\"timestamp\":\"2026-01-27T15:37:03.871Z\"",
    "\"kafka_timestamp\":1",
    "\\u0049",
    "\\",
    " ",
    "\n",
    "é",
    "\"header\":{",
    "\"correlation_id\":\"c\"",
    "\"arguments\":{",
    "\"x\":\"1\"",
    "}",
    "}",
    "\"_CMD\"",
    "{\"ID\":\"x\",",
];

const YAML: &[&str] = &[
    "devices:",
    "\n",
    "\n  ",
    "\n    ",
    "a:",
    "b: ",
    "uuid: A",
    "uuid: ",
    "connector:",
    " {",
    "}",
    "type: x",
    ", ",
    "[",
    "]",
    "- ",
    "&x ",
    "*x",
    "<<: ",
    "!t ",
    "!!str ",
    "'",
    "\"",
    "#",
    "|",
    ">",
    "? ",
    "${A}",
    "${",
    "~",
    "\t",
    "\r\n",
    "---\n",
    "...\n",
    "namespace_structure:",
    "uns_template: ",
    "area: ANY",
    "asset: ANY",
    "attribute: ANY",
    "area.asset.attribute",
    "uns: ",
    "variables: ",
    "é",
    "\u{feff}",
    "%",
    "@",
    "\u{85}",
    "\u{2028}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn random_bytes_hold_no_surprise(bytes in any::<Vec<u8>>()) {
        entry_points::event_decode(&bytes);
        entry_points::serve(&bytes);
        entry_points::device_file(&bytes);
        entry_points::command(&bytes);
    }

    #[test]
    fn words_of_json_hold_no_surprise(text in text(JSON)) {
        for text in [text.clone(), format!("{{\"ID\":\"x\",{text}}}"), format!("{{\"header\":{{\"correlation_id\":\"c\"}},{text}}}")] {
            entry_points::event_decode(text.as_bytes());
            entry_points::serve(text.as_bytes());
            entry_points::command(text.as_bytes());
        }
    }

    #[test]
    fn words_of_yaml_hold_no_surprise(text in text(YAML)) {
        entry_points::device_file(text.as_bytes());
    }

    #[test]
    fn device_files_with_a_changed_place_hold_no_surprise(at in any::<prop::sample::Index>(), len in 0..4_usize, new in ".{0,3}") {
        let file = include_str!("golden/devices.yaml");
        let at = at.index(file.len());
        let mut bytes = file.as_bytes().to_vec();
        bytes.splice(at..(at + len).min(file.len()), new.into_bytes());
        entry_points::device_file(&bytes);
    }
}
