use super::{COMMAND_MARK, Command, Header, NotACommand, STATUS_MARK, has_mark, method_name, method_of};
use crate::{Event, Timestamp};
use proptest::prelude::*;

#[test]
fn marks_are_found_wherever_they_stand() {
    assert!(has_mark(br#"__CMD""#, COMMAND_MARK) && has_mark(br#"_CMD""#, COMMAND_MARK) && has_mark(b"a", b""));
    assert!(has_mark(br#"{"ID":"a_CMD.status"}"#, STATUS_MARK) && !has_mark(br#"{"ID":"a_CMD.status"}"#, COMMAND_MARK));
    assert!(!has_mark(b"_CMD", COMMAND_MARK) && !has_mark(b"", COMMAND_MARK));
}

#[test]
fn unknown_header_keys_and_the_order_of_arguments_are_kept() {
    let text = concat!(
        r#"{"header":{"correlation_id":"c","sender_uuid":"S","timestamp":"2026-02-21T12:00:00Z","signature":null,"#,
        r#""ttl":1.50,"trace":{"b":1,"a":[2]}},"arguments":{"z":"1","a":"2","m":"3"}}"#
    );
    let command = Command::decode(text).expect("an envelope");
    assert_eq!(command.encode(), text);
    assert_eq!(command.header.time().map(Timestamp::millis), Some(1_771_675_200_000));
    let names: Vec<&str> = command.arguments.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn what_other_writers_leave_out_or_write_otherwise_is_read() {
    let command =
        Command::decode(r#"{"arguments": {"n": 1.50, "b": true, "l": [1, 2]}, "header": {"correlation_id": "c", "sender_uuid": null}}"#);
    let command = command.expect("an envelope");
    assert_eq!((command.argument("n"), command.argument("b"), command.argument("l")), (Some("1.50"), Some("true"), Some("[1, 2]")));
    assert_eq!((command.header.sender_uuid.as_str(), command.header.time()), ("", None));
    assert_eq!(Command::decode(r#"{"header":{"correlation_id":"c"},"arguments":null,"more":1}"#).expect("an envelope").arguments, []);
}

#[test]
fn what_is_no_envelope_is_refused() {
    for text in
        ["", "[]", "{", r#"{"header":5}"#, r#"{"header":{"correlation_id":5}}"#, r#"{"header":{"correlation_id":"c"},"arguments":[]}"#]
    {
        assert!(matches!(Command::decode(text), Err(NotACommand::Json(_))), "{text}");
    }
    for text in ["{}", r#"{"header":{}}"#, r#"{"header":{"correlation_id":""}}"#, r#"{"header":null}"#] {
        assert!(matches!(Command::decode(text), Err(NotACommand::NoCorrelationId)), "{text}");
    }
    let twice = r#"{"header":{"correlation_id":"c"},"arguments":{"x":"1","x":"2"}}"#;
    assert!(matches!(Command::decode(twice), Err(NotACommand::ArgumentTwice(name)) if name == "x"));
}

#[test]
fn a_command_is_an_event_of_its_target() {
    let header =
        Header { correlation_id: "c".into(), sender_uuid: "S".into(), timestamp: "2026-02-21T12:00:00Z".into(), ..Header::default() };
    let command = Command { header, arguments: vec![("x".into(), "10".into())] };
    let sample = command.to_sample("CNC-1", "Move_Axis", Timestamp::from_millis(0));
    let mut json = Vec::new();
    sample.encode(&mut json);
    let event = Event::decode(&json).expect("an event");
    assert_eq!((&*event.id, &*event.tag, event.kind.as_str()), ("Move_Axis_CMD", "Method.Command", "OpenFactory"));
    assert_eq!(Command::from_event(&event).expect("a command"), ("Move_Axis".to_owned(), command));
    let announced = Event { value: "".into(), ..event };
    assert!(matches!(Command::from_event(&announced), Err(NotACommand::Announcement)));
    assert_eq!((method_of("Move_CMD"), method_of("_CMD"), method_of("temp")), (Some("Move"), None, None));
}

#[test]
fn a_deadline_is_a_time_or_said_to_be_none() {
    let deadline = |text: Option<&str>| {
        let header = Header { expires_at: text.map(str::to_owned), ..Header::default() };
        header.deadline().map(|time| time.map(Timestamp::millis)).map_err(str::to_owned)
    };
    assert_eq!(deadline(None), Ok(None));
    assert_eq!(deadline(Some("2026-02-21T12:00:00Z")), Ok(Some(1_771_675_200_000)));
    assert_eq!(deadline(Some("in a minute")), Err("in a minute".to_owned()), "a deadline that cannot be read must not count as none");
}

#[test]
fn method_names_are_made_safe() {
    for (name, safe) in [
        ("Temp °C", Some("Temp_C")),
        ("MoveAxis", Some("MoveAxis")),
        ("  Start -- now!", Some("Start_now")),
        ("Öl Pumpe Start!", Some("Ol_Pumpe_Start")),
        ("Größe", Some("Groe")),
        ("ﬁx ²", Some("fix_2")),
        ("a__b_-c", Some("a_b_c")),
        ("_x_", Some("x")),
        ("温度", None),
        ("", None),
    ] {
        assert_eq!(method_name(name).as_deref(), safe, "{name:?}");
    }
}

proptest! {
    #[test]
    fn every_command_reads_back_as_written(
        (correlation_id, sender_uuid, timestamp) in (".+", ".*", ".*"),
        (expires_at, signature) in (proptest::option::of(".*"), proptest::option::of(".*")),
        further in proptest::collection::btree_map("[a-z]{9,12}", any::<i32>(), 0..4),
        arguments in proptest::collection::btree_map(".*", ".*", 0..6),
    ) {
        let known = ["timestamp", "signature"];
        let further = further.into_iter().map(|(name, n)| (name, n.to_string())).filter(|(name, _)| !known.contains(&name.as_str()));
        let header = Header { correlation_id, sender_uuid, timestamp, expires_at, signature, further: further.collect() };
        let command = Command { header, arguments: arguments.into_iter().collect() };
        prop_assert_eq!(Command::decode(&command.encode()).expect("an envelope"), command);
    }

    #[test]
    fn no_name_is_made_unsafe(name in ".*") {
        if let Some(safe) = method_name(&name) {
            prop_assert!(safe.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !safe.starts_with('_') && !safe.ends_with('_'));
            prop_assert_eq!(method_name(&safe), Some(safe));
        }
    }
}
