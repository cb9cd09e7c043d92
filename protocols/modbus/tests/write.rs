//! Commands to Modbus devices: those that do as they are told, and those that do not.

mod support;

use std::time::Duration;

use asset_stream::Value;
use asset_stream::command::status::Reason;
use gateway::{Ending, Request};
use gateway_modbus::Buses;
use support::foreign::{Foreign, python};
use support::{Behaviour, Edge, Question, Reaction, TcpDevice, write};

const VARIABLES: &str = "
defaults: {interval: 50}
variables:
  coil: {coil: 3, access_level: rw}
  level: {holding_register: 0, type: int16, scale: 0.1, access_level: rw}
  limit: {holding_register: 1, type: int32, word_order: CDAB, access_level: rw}
  speed: {holding_register: 3, type: float32, access_level: rw}
  total: {holding_register: 5, type: uint64, word_order: DCBA, access_level: rw}
  name: {holding_register: 9, type: string, length: 3, access_level: rw}
  run: {holding_register: 12, bit: 2, access_level: rw}
  mode: {holding_register: 12, bits: 4-7, access_level: rw}
  temp: {holding_register: 0, type: int16}
  input: {input_register: 4}
";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn tcp(port: &str, rest: &str) -> String {
    format!("server: {{host: 127.0.0.1, port: {port}, timeout: 200, max_reconnect_delay: 300}}\n{VARIABLES}\n{rest}\n")
}

/// Everything of [`VARIABLES`] is written into a device that we did not write, read back, and told.
async fn everything_is_written(mut device: Foreign, yaml: &str, functions: [u8; 3]) {
    let mut edge = Edge::start(yaml, &Buses::new());
    for (variable, value) in [
        ("coil", "true"),
        ("level", "-2.5"),
        ("limit", "-70000"),
        ("speed", "24.3"),
        ("total", "18446744073709551615"),
        ("name", "Oil 7"),
        ("run", "true"),
        ("mode", "9"),
        ("mode", "6"),
    ] {
        assert_eq!(edge.write(variable, value).await, Ending::Done(None), "{variable}");
    }
    let [one_coil, one_register, some_bits] = functions;
    let written = format!(
        "[[{one_coil},3,[1]],[{one_register},0,[65511]],[16,1,[61072,65534]],[16,3,[16834,26214]],[16,5,[65535,65535,65535,65535]],\
         [16,9,[20329,27680,14080]],[{some_bits},12,[4]],[{some_bits},12,[148]],[{some_bits},12,[100]]]"
    );
    assert_eq!(device.tell("written").await, written);
    let expected = [
        ("coil", "true"),
        ("level", "-2.5"),
        ("limit", "-70000"),
        ("speed", "24.3"),
        ("total", "18446744073709551615"),
        ("name", "\"Oil 7\""),
        ("run", "true"),
        ("mode", "6"),
    ];
    edge.until("all of it", |edge| expected.iter().all(|(id, value)| edge.state().get(*id).is_some_and(|seen| seen == value))).await;
    let actions = edge.actions.clone();
    let read = |id: &'static str| {
        let actions = actions.clone();
        async move { actions.read(id).await }
    };
    assert_eq!(edge.meanwhile(read("level")).await, Ok(Value::Float64(-2.5)));
    assert_eq!(edge.meanwhile(read("mode")).await, Ok(Value::UInt(6)));
    assert_eq!(edge.meanwhile(read("coil")).await, Ok(Value::Bool(true)));
    assert!(edge.meanwhile(read("nothing")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_is_written_over_tcp() {
    let Some(python) = python() else { return };
    let device = Foreign::start(&python, &[]).await;
    let yaml = tcp(&device.place, "");
    everything_is_written(device, &yaml, [5, 6, 22]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_is_written_with_the_functions_for_several_where_the_file_says_so() {
    let Some(python) = python() else { return };
    let device = Foreign::start(&python, &[]).await;
    let yaml = tcp(&device.place, "requests: {write: multiple, write_bits: read_modify_write}");
    everything_is_written(device, &yaml, [15, 16, 16]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_is_written_over_a_serial_line() {
    let Some(python) = python() else { return };
    let device = Foreign::start(&python, &["--serial"]).await;
    let line = format!("serial: {{port: {}, baud_rate: 115200, unit_id: 1, timeout: 300, settle_time: 100}}", device.place);
    everything_is_written(device, &format!("{line}\n{VARIABLES}"), [5, 6, 22]).await;
}

fn refused(ending: Ending) -> (&'static str, Reason, String) {
    match ending {
        Ending::Done(result) => panic!("done: {result:?}"),
        Ending::NotDone(refusal) => ("not done", refusal.reason, refusal.detail),
        Ending::Unknown(refusal) => ("unknown", refusal.reason, refusal.detail),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_leaves_the_write_unknown_and_it_is_not_sent_again() {
    let Some(python) = python() else { return };
    for arguments in [[].as_slice(), &["--serial"]] {
        let mut device = Foreign::start(&python, arguments).await;
        let yaml = match arguments {
            [] => tcp(&device.place, ""),
            _ => format!(
                "serial: {{port: {}, baud_rate: 115200, unit_id: 1, timeout: 200, settle_time: 200, max_reconnect_delay: 300}}\n{VARIABLES}",
                device.place
            ),
        };
        let mut edge = Edge::start(&yaml, &Buses::new());
        edge.until("a first poll", |edge| edge.state().contains_key("limit")).await;
        device.tell("delay 0.3").await;
        let (state, reason, detail) = refused(edge.write("limit", "5").await);
        assert_eq!((state, reason), ("unknown", Reason::NoAnswer), "{detail}");
        assert!(detail.contains("did not answer within"), "{detail}");
        device.tell("delay 0").await;
        // The late answer is taken for no other: the next reading and the next write are right.
        edge.until("the value", |edge| edge.state().get("limit").is_some_and(|value| value == "5")).await;
        assert_eq!(edge.write("level", "1.5").await, Ending::Done(None));
        assert_eq!(device.tell("written").await, "[[16,1,[5,0]],[6,0,[15]]]", "each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_exception_says_whether_it_was_done() {
    let device = TcpDevice::start(Behaviour::new(|q| q.right())).await;
    let mut edge = Edge::start(&tcp(&device.port.to_string(), ""), &Buses::new());
    for (code, state, reason, words) in [
        (1, "not done", Reason::DeviceRefused, "does not know function 6: `requests: {write: multiple}`"),
        (2, "not done", Reason::DeviceRefused, "IllegalDataAddress (0x02)"),
        (3, "not done", Reason::DeviceRefused, "IllegalDataValue (0x03)"),
        (4, "unknown", Reason::DeviceRefused, "ServerDeviceFailure (0x04)"),
        (5, "unknown", Reason::DeviceRefused, "Acknowledge (0x05)"),
        (6, "not done", Reason::DeviceRefused, "ServerDeviceBusy (0x06)"),
        (8, "unknown", Reason::DeviceRefused, "MemoryParityError (0x08)"),
        (10, "not done", Reason::DeviceAway, "GatewayPathUnavailable (0x0A)"),
        (11, "unknown", Reason::NoAnswer, "GatewayTargetDeviceFailedToRespond (0x0B)"),
    ] {
        let before = device.behaviour.written().len();
        device.behaviour.change(move |q: Question| if q.writes() { q.exception(code) } else { q.right() });
        let (seen_state, seen_reason, detail) = refused(edge.write("level", "1").await);
        assert_eq!((seen_state, seen_reason), (state, reason), "{detail}");
        assert!(detail.contains(words), "{detail}");
        assert_eq!(device.behaviour.written().len(), before + 1, "asked once, whatever it answered");
    }
    let (_, _, detail) = refused({
        device.behaviour.change(|q: Question| if q.writes() { q.exception(1) } else { q.right() });
        edge.write("run", "1").await
    });
    assert!(detail.contains("does not know function 22: `requests: {write_bits: read_modify_write}`"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_never_sent_twice_whatever_comes_back() {
    let device = TcpDevice::start(Behaviour::new(|q| q.right())).await;
    let mut edge = Edge::start(&tcp(&device.port.to_string(), ""), &Buses::new());
    type Answer = fn(Question) -> Reaction;
    let answers: [(&str, Answer); 6] = [
        ("silence", |_| Reaction::Silence),
        ("the end of the connection", |_| Reaction::Close),
        ("another value", |q| Question { count: q.count + 1, ..q }.done()),
        ("another address", |q| Question { start: q.start + 1, ..q }.done()),
        ("another question's answer", |q| Reaction::Astray(q.done().pdu())),
        ("noise", |q| Reaction::Raw(vec![0xFF; 3 + usize::from(q.function)])),
    ];
    for (what, answer) in answers {
        let before = device.behaviour.written().len();
        device.behaviour.change(move |q: Question| if q.writes() { answer(q) } else { q.right() });
        let (state, reason, detail) = refused(edge.write("level", "1").await);
        assert_eq!((state, reason), ("unknown", Reason::NoAnswer), "{what}: {detail}");
        device.behaviour.change(|q: Question| if q.writes() { q.done() } else { q.right() });
        // It is there again, and was asked for many things since; the write is not among them.
        let polls = device.behaviour.asked().len();
        edge.watch("polls after it", || device.behaviour.asked().len() > polls + 10).await;
        assert_eq!(device.behaviour.written().len(), before + 1, "{what}");
    }
    assert_eq!(edge.write("level", "1").await, Ending::Done(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_device_closed_while_it_was_idle_leaves_no_doubt() {
    // It hangs up after each answer, as some do after a while.
    let device = TcpDevice::start(Behaviour::new(|q: Question| Reaction::AnswerAndClose(q.right().pdu()))).await;
    let rest = "defaults: {interval: 60000}\nvariables: {level: {holding_register: 0, access_level: rw}}";
    let yaml = format!("server: {{host: 127.0.0.1, port: {}, timeout: 200}}\n{rest}\n", device.port);
    let mut edge = Edge::start(&yaml, &Buses::new());
    edge.until("a poll", |edge| edge.state().contains_key("level")).await;
    device.behaviour.change(|q: Question| if q.writes() { q.done() } else { q.right() });
    let idle = tokio::time::Instant::now();
    edge.watch("a second of silence", || idle.elapsed() > ms(1100)).await;
    assert_eq!(edge.write("level", "7").await, Ending::Done(None));
    assert_eq!(device.behaviour.written().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_device_that_is_away_and_the_wait_for_it_ends_when_it_is_back() {
    let mut device = TcpDevice::start(Behaviour::new(|q: Question| if q.writes() { q.done() } else { q.right() })).await;
    let mut edge = Edge::start(&tcp(&device.port.to_string(), ""), &Buses::new());
    let (actions, request) = (edge.actions.clone(), write("level", "1"));
    edge.meanwhile(actions.ready()).await;
    device.stop();
    edge.until("the loss", |edge| edge.values("avail").len() == 2).await;
    let (state, reason, detail) = refused(edge.meanwhile(actions.execute(&request)).await);
    assert_eq!((state, reason), ("not done", Reason::DeviceAway), "{detail}");
    assert!(edge.meanwhile(actions.read("level")).await.is_err());
    device.restart().await;
    assert_eq!(edge.write("level", "1").await, Ending::Done(None));
    assert_eq!(device.behaviour.written().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_outlive_a_stop_of_the_gateway() {
    let device = TcpDevice::start(Behaviour::new(|q: Question| if q.writes() { q.done() } else { q.right() })).await;
    let mut edge = Edge::start(&tcp(&device.port.to_string(), ""), &Buses::new());
    let actions = edge.actions.clone();
    assert_eq!(edge.write("level", "1").await, Ending::Done(None));
    edge.stop().await;
    let (state, reason, _) = refused(actions.execute(&write("level", "2")).await);
    assert_eq!((state, reason, device.behaviour.written().len()), ("not done", Reason::DeviceAway, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_before_polls_that_wait() {
    // Two units of one gateway that takes its time: the connection is never free.
    let device = TcpDevice::start(Behaviour::new(|q: Question| if q.writes() { q.done() } else { q.right().late(ms(60)) })).await;
    let buses = Buses::new();
    let unit = |unit: u8| {
        let rest = "defaults: {interval: 10, report: always}\nvariables: {level: {holding_register: 0, access_level: rw}}";
        format!("server: {{host: 127.0.0.1, port: {}, unit_id: {unit}}}\n{rest}", device.port)
    };
    let mut edges: Vec<Edge> = (1..=8).map(|number| Edge::start(&unit(number), &buses)).collect();
    for edge in &mut edges {
        edge.until("a poll", |edge| edge.values("level").len() > 2).await;
    }
    let polls = device.behaviour.asked().len();
    assert_eq!(edges[3].write("level", "1").await, Ending::Done(None));
    let between = device.behaviour.written()[0].number - polls;
    assert!(between <= 3, "{between} polls went before the command");
}

#[tokio::test]
async fn what_can_never_work_is_known_without_asking() {
    let device = TcpDevice::absent(Behaviour::new(|q| q.right())).await;
    let edge = Edge::start(&tcp(&device.port.to_string(), ""), &Buses::new());
    let reason = |request: &Request| edge.actions.check(request).map_err(|refusal| (refusal.reason, refusal.detail));
    assert_eq!(reason(&write("level", "12.5")), Ok(()));
    let with = |arguments: &[(&str, &str)]| Request {
        method: "level".into(),
        arguments: arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    for (request, expected, words) in [
        (write("levl", "1"), Reason::UnknownMethod, "is level meant?"),
        (write("temp", "1"), Reason::UnknownMethod, "`access_level: rw` in the device file"),
        (write("input", "1"), Reason::UnknownMethod, "input registers can only be read"),
        (with(&[]), Reason::MissingArgument, "`value` is missing"),
        (with(&[("value", "1"), ("valeu", "2")]), Reason::UnknownArgument, "valeu"),
        (write("level", "warm"), Reason::WrongType, "value: \"warm\" is no number"),
        (write("level", "4000"), Reason::OutOfRange, "4000 is out of range: -3276.8 to 3276.7"),
        (write("mode", "16"), Reason::OutOfRange, "0 to 15"),
        (write("coil", "2"), Reason::WrongType, "neither true nor false"),
        (write("name", "Ölstand"), Reason::OutOfRange, "encoding ascii"),
    ] {
        let (seen, detail) = reason(&request).expect_err("it cannot work");
        assert_eq!(seen, expected, "{request:?}: {detail}");
        assert!(detail.contains(words), "{request:?}: {detail}");
        let (state, executed, _) = refused(edge.actions.execute(&request).await);
        assert_eq!((state, executed), ("not done", expected));
    }
    assert!(device.behaviour.asked().is_empty());
}
