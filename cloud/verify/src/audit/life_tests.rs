use super::life::{Flag, Lives, Row};
use super::{Record, Request};
use asset_stream::command::Command;
use asset_stream::command::status::{State, Status};
use asset_stream::{Event, Sample, Timestamp};

const DAY: i64 = 86_400_000;

fn record(sample: &Sample, n: u64) -> Record {
    let mut value = Vec::new();
    sample.encode(&mut value);
    let event = Event::decode(&value).expect("an event");
    let position = Some(asset_stream::Position { epoch: 1, n });
    Record { asset: "CNC-1".into(), partition: 0, event, time: 1000 * n as i64, edge: Some("E-1".into()), position }
}

fn command(id: &str, n: u64) -> Record {
    let text = format!(r#"{{"header":{{"correlation_id":"{id}","sender_uuid":"HMI-1"}},"arguments":{{"x":"1"}}}}"#);
    let sample = Command::decode(&text).expect("an envelope").to_sample("CNC-1", "Move", Timestamp::from_millis(1000 * n as i64));
    Record { edge: None, position: None, ..record(&sample, n) }
}

fn status(id: &str, state: State, n: u64) -> Record {
    record(&Status::new("HMI-1", id, state, Timestamp::from_millis(1000 * n as i64)).to_sample("CNC-1", "Move"), n)
}

fn rows(records: Vec<Record>, is_cut: bool) -> (Vec<Row>, u64) {
    let mut lives = Lives::default();
    records.into_iter().for_each(|record| lives.take(record));
    let request = Request { topic: String::new(), asset: None, sender: None, from: None, to: None };
    lives.rows(&request, |_| is_cut, Timestamp::from_millis(DAY))
}

fn flags(records: Vec<Record>) -> Vec<Flag> {
    rows(records, false).0.into_iter().flat_map(|row| row.flags).collect()
}

#[test]
fn a_sound_life_has_its_steps_with_their_durations_and_no_flag() {
    let all = vec![command("c", 1), status("c", State::Accepted, 2), status("c", State::Executing, 4), status("c", State::Succeeded, 5)];
    let (rows, _) = rows(all, false);
    let steps: Vec<(State, i64)> = rows[0].steps.iter().map(|step| (step.state, step.after_ms)).collect();
    assert_eq!(steps, [(State::Accepted, 1000), (State::Executing, 2000), (State::Succeeded, 1000)]);
    assert!(rows[0].flags.is_empty() && rows[0].end == Some(State::Succeeded), "{rows:?}");
}

#[test]
fn each_harm_has_its_flag() {
    assert_eq!(flags(vec![command("c", 1), status("c", State::Accepted, 2)]), [Flag::NoEnd]);
    assert_eq!(flags(vec![command("c", 1), status("c", State::Rejected, 2), status("c", State::Expired, 3)]), [Flag::TwoEnds]);
    assert_eq!(flags(vec![command("c", 1), status("c", State::Executing, 2), status("c", State::Failed, 3)]), [Flag::WrongStep]);
    assert_eq!(flags(vec![status("c", State::Rejected, 2)]), [Flag::NoCommand]);
    // Given again, and told again, is nothing new.
    assert_eq!(flags(vec![command("c", 1), command("c", 2), status("c", State::Rejected, 3), status("c", State::Rejected, 3)]), []);
    // Two days before its deadline nobody misses an end.
    assert_eq!(flags(vec![command("c", DAY as u64 / 1000)]), []);
}

#[test]
fn a_life_that_began_before_what_was_read_is_not_judged() {
    let (rows, earlier) = rows(vec![status("c", State::Succeeded, 2)], true);
    assert!(rows.is_empty() && earlier == 1, "{rows:?}");
}
