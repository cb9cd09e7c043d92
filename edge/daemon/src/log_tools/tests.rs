use std::path::Path;

use edge_buffer::{Config, Entry, open};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

use super::{export, inspect};
use crate::cli::{ExportArgs, Format, InspectArgs};

fn log_of(dir: &Path, values: &[&str]) {
    let log = open(Config { dir: dir.to_owned(), min_free: 0, ..Config::default() }).expect("a new log").log;
    let entry = |(n, value): (usize, &&str)| Entry {
        key: "PRESS-1".into(),
        timestamp: 1_769_528_223_871 + n as i64,
        value: value.as_bytes().to_vec(),
    };
    log.append_durable(values.iter().enumerate().map(entry).collect()).expect("an open log");
    log.close().expect("closed");
}

fn to(output: &Path, format: Format) -> ExportArgs {
    ExportArgs { asset: Vec::new(), from: None, to: None, format, output: Some(output.to_owned()) }
}

const VALUES: [&str; 3] = [
    r#"{"ID":"temp","VALUE":24.3,"TAG":"Temperature","TYPE":"Samples","attributes":{"timestamp":"2026-01-27T15:37:03.871Z","quality":"Good"}}"#,
    r#"{"ID":"avail","VALUE":"UNAVAILABLE","TAG":"Availability","TYPE":"Events","attributes":{}}"#,
    "no event",
];

#[test]
fn a_parquet_file_holds_every_event_in_typed_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    log_of(dir.path(), &VALUES);
    let file = dir.path().join("events.parquet");
    export::run(dir.path(), &to(&file, Format::Parquet)).expect("exported");
    let reader = SerializedFileReader::new(std::fs::File::open(file).expect("the file")).expect("a Parquet file");
    let rows: Vec<_> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    let names: Vec<&str> = rows[0].get_column_iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["asset", "seq", "asset_seq", "epoch", "time", "id", "type", "tag", "value", "number", "quality", "attributes"];
    assert_eq!(names, expected);
    let text = |row: usize, column| rows[row].get_string(column).map(String::as_str).ok();
    assert_eq!(
        (text(0, 0), rows[0].get_ulong(1).ok(), rows[0].get_timestamp_millis(4).ok()),
        (Some("PRESS-1"), Some(1), Some(1_769_528_223_871))
    );
    assert_eq!((text(0, 5), text(0, 8), rows[0].get_double(9).ok(), text(0, 10)), (Some("temp"), Some("24.3"), Some(24.3), Some("Good")));
    assert_eq!((text(1, 5), text(1, 8), rows[1].get_double(9).ok(), text(1, 10)), (Some("avail"), Some("\"UNAVAILABLE\""), None, None));
    assert_eq!((text(2, 5), text(2, 8)), (None, Some("no event")), "what is no event keeps its text");
}

#[test]
fn json_lines_hold_every_event_as_it_stands_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    log_of(dir.path(), &VALUES);
    let file = dir.path().join("events.jsonl");
    export::run(dir.path(), &to(&file, Format::Jsonl)).expect("exported");
    let text = std::fs::read_to_string(file).expect("the file");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].ends_with(&format!(r#""time":"2026-01-27T15:37:03.871Z","event":{}}}"#, VALUES[0])), "{}", lines[0]);
    assert!(lines[2].ends_with(r#""event":"no event"}"#), "{}", lines[2]);
}

#[test]
fn a_table_of_the_log_fits_into_80_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    log_of(dir.path(), &VALUES);
    let log = edge_buffer::inspect(dir.path()).expect("a log");
    let text = inspect::table(&log).expect("text");
    let wide: Vec<&str> = text.lines().skip(1).filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, [] as [&str; 0], "in\n{text}");
    inspect::run(dir.path(), &InspectArgs { json: true }).expect("shown");
}
