//! Over a pair of pseudo terminals, as over a serial line.

mod support;

use std::time::Duration;

use gateway_modbus::{Buses, Error, ModbusGateway};
use support::{Behaviour, Edge, Question, Reaction, Running, config, serve_rtu};
use tokio::time::{Instant, sleep};
use tokio_serial::{SerialPort, SerialStream};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A serial line with devices at its far end.
struct Line {
    port: String,
    _devices: Running,
}

impl Line {
    fn with(behaviour: Behaviour) -> Self {
        let (mut far, near) = SerialStream::pair().expect("a pair of terminals");
        let port = near.name().expect("its path");
        // The gateway opens the near end by its path, and wants it for itself.
        drop(near);
        let devices = tokio::spawn(async move {
            loop {
                // Reading fails while nobody has the other end open.
                if serve_rtu(&mut far, behaviour.clone()).await.is_err() {
                    sleep(ms(5)).await;
                }
            }
        });
        Self { port, _devices: Running(devices) }
    }

    fn yaml(&self, serial: &str, rest: &str) -> String {
        format!("serial: {{port: {}, baud_rate: 115200, max_reconnect_delay: 300, {serial}}}\n{rest}\n", self.port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_over_a_serial_line() {
    let line = Line::with(Behaviour::new(|q| q.right()));
    let rest = "
defaults: {interval: 20, report: always}
variables: {a: {holding_register: 7}, b: {input_register: 1, type: uint32, word_order: CDAB}, c: {coil: 3}, d: {discrete_input: 4}}
";
    let mut edge = Edge::start(&line.yaml("unit_id: 17", rest), &Buses::new());
    edge.until("some polls", |edge| edge.values("a").len() > 10 && edge.state().len() == 5).await;
    let state = edge.state();
    assert_eq!([&state["a"], &state["b"], &state["c"], &state["d"]], ["7", "131073", "true", "false"]);
    assert_eq!(edge.values("avail"), ["\"AVAILABLE\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_answer_of_one_register_never_becomes_the_value_of_another() {
    // Register 900 is answered when its question has been given up, and the line is already waiting for the next one.
    let behaviour = Behaviour::new(|q: Question| if q.holds(900) { q.right().late(ms(150)) } else { q.right() });
    let line = Line::with(behaviour.clone());
    let rest = "
requests: {retry_refused: 1000}
defaults: {interval: 40, report: always}
variables: {a: {holding_register: 0}, z: {holding_register: 900}}
";
    let mut edge = Edge::start(&line.yaml("unit_id: 1, timeout: 100, settle_time: 150", rest), &Buses::new());
    let reason = |edge: &Edge| edge.status.last_error().map(|(error, _)| error).unwrap_or_default();
    edge.until("the reason", |edge| reason(edge).contains("7 bytes came later: raise `timeout`")).await;
    let late = || behaviour.asked().iter().filter(|q| q.holds(900)).count();
    edge.watch("many late answers", || late() > 8).await;
    edge.until("values after them", |edge| edge.values("a").len() > 20).await;
    assert!(edge.values("a").iter().all(|value| value == "0"), "a: {:?}", edge.values("a"));
    assert!(edge.values("z").iter().all(|value| value == "NoAnswer"), "z: {:?}", edge.values("z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_after_the_settle_time_are_not_taken_for_others_either() {
    // Each question about register 900 is answered when the next one or two have been asked already.
    let behaviour = Behaviour::new(|q: Question| if q.holds(900) { q.right().late(ms(350)) } else { q.right() });
    let line = Line::with(behaviour.clone());
    let rest = "
requests: {retry_refused: 1000}
defaults: {interval: 10, report: always}
variables: {a: {holding_register: 0}, z: {holding_register: 900}}
";
    let mut edge = Edge::start(&line.yaml("unit_id: 1, timeout: 100, settle_time: 100", rest), &Buses::new());
    let late = || behaviour.asked().iter().filter(|q| q.holds(900)).count();
    edge.watch("many late answers", || late() > 8).await;
    edge.until("values after them", |edge| edge.values("a").len() > 20).await;
    assert!(edge.values("a").iter().all(|value| value == "0"), "a: {:?}", edge.values("a"));
    assert!(edge.values("z").iter().all(|value| value == "NoAnswer"), "z: {:?}", edge.values("z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_line_is_never_a_value() {
    let noisy = |q: Question| match q.number % 8 {
        0 => Reaction::Raw(vec![0x01, 0x03, 0x02, 0x02, 0x9A, 0x00, 0x00]), // a wrong check sum
        1 => Reaction::Raw(vec![0x01, 0x03, 0x02]),
        2 => Reaction::Astray(q.with(|_| 666).pdu()),
        3 => Reaction::Answer(vec![3, 4, 2, 154, 2, 154]),
        _ => q.right(),
    };
    let line = Line::with(Behaviour::new(noisy));
    let rest = "defaults: {interval: 10, report: always}\nvariables: {a: {holding_register: 5}}";
    let mut edge = Edge::start(&line.yaml("unit_id: 1, timeout: 50, settle_time: 20, retries: 10", rest), &Buses::new());
    edge.until("right answers", |edge| edge.values("a").len() == 5).await;
    assert_eq!(edge.values("a"), ["5"; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_share_a_line_and_a_dead_one_is_backed_off() {
    let behaviour = Behaviour::new(|q: Question| if q.unit == 9 { Reaction::Silence } else { q.with(|_| q.unit.into()) });
    let line = Line::with(behaviour.clone());
    let (buses, rest) = (Buses::new(), "defaults: {interval: 10, report: always}\nvariables: {a: {holding_register: 5}}");
    let serial = |unit: u8| format!("unit_id: {unit}, timeout: 100, settle_time: 100");
    let start = |unit| Edge::start(&line.yaml(&serial(unit), rest), &buses);
    let (mut dead, mut one, mut two) = (start(9), start(1), start(2));
    let began = Instant::now();
    dead.until("its loss", |edge| edge.values("avail").len() == 1).await;
    one.until("five seconds of polls", |_| began.elapsed() > Duration::from_secs(5)).await;
    let (elapsed, asked) = (began.elapsed(), behaviour.asked());
    two.until("a poll of the other", |edge| edge.values("a").len() > 1).await;
    let count = |unit| asked.iter().filter(|q| q.unit == unit).count();
    let waited = ms(200) * count(9) as u32;
    assert!(waited <= elapsed.mul_f64(0.1) + ms(1000), "waited {waited:?} of {elapsed:?} for the dead unit");
    assert!(one.values("a").iter().all(|value| value == "1") && two.values("a").iter().all(|value| value == "2"));
    assert!(count(1).min(count(2)) > 20, "{} and {} polls of those that answer", count(1), count(2));
    // The line is let go with its last device, and taken again by the next.
    for edge in [dead, one, two] {
        edge.stop().await;
    }
    let mut again = start(1);
    again.until("a value", |edge| !edge.values("a").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_cannot_have_two_settings() {
    let buses = Buses::new();
    let device = |serial: &str| config(&format!("serial: {{port: /dev/ttyUSB0, {serial}}}\nvariables: {{a: {{coil: 1}}}}"));
    let first = ModbusGateway::new(device("baud_rate: 9600, unit_id: 1"), &buses).expect("the first");
    let second = ModbusGateway::new(device("baud_rate: 19200, unit_id: 2"), &buses);
    let error = second.err().map(|error| error.to_string()).expect("a contradiction");
    assert!(error.contains("/dev/ttyUSB0 19200 8E1") && error.contains("/dev/ttyUSB0 9600 8E1"), "{error}");
    assert!(matches!(ModbusGateway::new(device("baud_rate: 9600, parity: none, unit_id: 2"), &buses), Err(Error::Contradiction { .. })));
    drop(first);
    ModbusGateway::new(device("baud_rate: 19200, unit_id: 2"), &buses).expect("the first is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_does_not_exist_is_named() {
    let rest = "variables: {a: {holding_register: 5}}";
    let yaml = format!("serial: {{port: /dev/no-such-port, baud_rate: 9600, unit_id: 1}}\n{rest}");
    let mut edge = Edge::start(&yaml, &Buses::new());
    edge.until("the loss", |edge| !edge.values("avail").is_empty()).await;
    let (error, _) = edge.status.last_error().expect("told");
    assert!(error.starts_with("/dev/no-such-port cannot be opened (there is no such port: is the adapter plugged in"), "{error}");
}
