//! Against Modbus TCP devices that behave, and that do not.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use asset_stream::{Kind, Quality};
use gateway::Outcome;
use gateway_modbus::Buses;
use support::{Behaviour, Edge, Question, Reaction, TcpDevice};
use tokio::time::Instant;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn yaml(port: u16, server: &str, rest: &str) -> String {
    format!("server: {{host: 127.0.0.1, port: {port}, timeout: 200, max_reconnect_delay: 500{server}}}\n{rest}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_is_read_told_once_and_again_when_it_changes() {
    let level = Arc::new(AtomicU16::new(100));
    let seen = level.clone();
    let behaviour = Behaviour::new(move |q: Question| {
        q.with(|address| match (q.function, address) {
            (3, 0) => seen.load(Ordering::SeqCst),
            (3, 10) => 0x41C2,
            (3, 11) => 0x6666,
            (3, 20) => 0x4142,
            (3, 21) => 0x4300,
            (4, 5) => 0xFFFF,
            (1, 3) | (2, 9) => 1,
            _ => 0,
        })
    });
    let device = TcpDevice::start(behaviour).await;
    let rest = "
defaults: {interval: 20}
variables:
  level: {holding_register: 0, scale: 0.1, offset: -1, deadband: 0.5, unit: mm, tag: Level}
  temp: {reference: 40011, type: float32}
  name: {holding_register: 20, type: string, length: 2}
  low: {input_register: 5, type: int16}
  run: {coil: 3}
  door: {discrete_input: 9}
  pulse: {coil: 4, report: always}
constants:
  bits: {input_register: 5, bits: 0-3}
";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("all values", |edge| edge.state().len() >= 9).await;
    let expected = [
        ("avail", "\"AVAILABLE\""),
        ("level", "9.0"),
        ("temp", "24.3"),
        ("name", "\"ABC\""),
        ("low", "-1"),
        ("run", "true"),
        ("door", "true"),
        ("pulse", "false"),
        ("bits", "15"),
    ];
    assert_eq!(edge.state(), expected.map(|(id, value)| (id.to_owned(), value.to_owned())).into());
    for millis in [104, 106, 103, 112] {
        level.store(millis, Ordering::SeqCst);
        let pulses = edge.values("pulse").len();
        edge.until("three more polls", |edge| edge.values("pulse").len() > pulses + 3).await;
    }
    assert_eq!(edge.values("level"), ["9.0", "9.6", "10.2"], "5 raw units are the deadband");
    assert_eq!((edge.values("temp").len(), edge.values("bits").len()), (1, 1));
    let level = edge.told().iter().find(|sample| &*sample.item.id == "level").expect("told");
    assert_eq!((level.item.kind, &*level.item.tag, level.attributes[0].1.as_str()), (Kind::Samples, "Level", "mm"));
    let asked_constants = device.behaviour.asked().iter().filter(|q| q.function == 4).count();
    let name = edge.told().iter().find(|sample| &*sample.item.id == "name").expect("told");
    assert_eq!(name.item.kind, Kind::Events);
    assert!(asked_constants > 1, "low is polled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_register_is_isolated_and_harms_no_neighbour() {
    let behaviour = Behaviour::new(|q: Question| if q.holds(37) || q.holds(71) { q.exception(2) } else { q.right() });
    let device = TcpDevice::start(behaviour).await;
    let variables: Vec<String> = (0..100).filter(|i| *i != 71).map(|i| format!("v{i}: {{holding_register: {i}}}")).collect();
    let rest = format!("defaults: {{interval: 20, report: always}}\nvariables: {{{}}}", variables.join(", "));
    let mut edge = Edge::start(&yaml(device.port, "", &rest), &Buses::new());
    edge.until("every other register", |edge| edge.state().len() == 100 && edge.values("v99").len() > 20).await;
    assert_eq!(edge.values("v37"), ["IllegalDataAddress (0x02)"], "said once");
    for (id, value) in edge.state() {
        if let Some(address) = id.strip_prefix('v').filter(|address| *address != "37") {
            assert_eq!(value, address, "{id}");
        }
    }
    let asked = device.behaviour.asked();
    let wrong = asked.iter().filter(|q| q.holds(37) || q.holds(71)).count();
    assert!(wrong <= 20, "{wrong} refused questions: what was learned is remembered");
    assert_eq!(edge.values("avail"), ["\"AVAILABLE\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_asked_for_again_after_a_while() {
    let behaviour = Behaviour::new(|q: Question| if q.holds(1) { q.exception(2) } else { q.right() });
    let device = TcpDevice::start(behaviour).await;
    let rest = "requests: {retry_refused: 1000}\ndefaults: {interval: 50}\nvariables: {a: {holding_register: 0}, b: {holding_register: 1}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("the refusal", |edge| !edge.values("b").is_empty()).await;
    device.behaviour.change(|q| q.right());
    edge.until("the value", |edge| edge.values("b").len() == 2).await;
    assert_eq!(edge.values("b"), ["IllegalDataAddress (0x02)", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_refused_is_told_again_although_it_did_not_change() {
    let device = TcpDevice::start(Behaviour::new(|q: Question| if q.holds(1) { q.exception(2) } else { q.right() })).await;
    let rest = "defaults: {interval: 20}\nvariables: {a: {holding_register: 0}, b: {holding_register: 1}}\nconstants: {c: {coil: 3}, d: {input_register: 4}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    let told = |edge: &Edge| ["a", "b", "c", "d"].map(|id| edge.values(id).len());
    edge.outcome = Outcome::Refused;
    edge.until("everything, in vain", |edge| told(edge).iter().all(|count| *count > 0)).await;
    edge.outcome = Outcome::Durable;
    let refused = told(&edge);
    edge.until("everything once more", |edge| told(edge).iter().zip(refused).all(|(count, before)| *count > before)).await;
    let (known, asked) = (told(&edge), device.behaviour.asked().len());
    edge.watch("many more polls", || device.behaviour.asked().len() > asked + 50).await;
    assert_eq!(told(&edge), known, "what the log has is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_that_is_never_answered_is_isolated_too() {
    let behaviour = Behaviour::new(|q: Question| if q.holds(2) { Reaction::Silence } else { q.right() });
    let device = TcpDevice::start(behaviour).await;
    let rest = "defaults: {interval: 20}\nvariables: {a: {holding_register: 2}, b: {holding_register: 1}, c: {holding_register: 3}}";
    let mut edge = Edge::start(&yaml(device.port, ", timeout: 50", rest).replace("timeout: 200, ", ""), &Buses::new());
    edge.until("all three", |edge| ["a", "b", "c"].iter().all(|id| edge.state().contains_key(*id))).await;
    let state = edge.state();
    assert_eq!((state["a"].as_str(), state["b"].as_str(), state["c"].as_str()), ("NoAnswer", "1", "3"));
    assert_eq!(edge.state()["avail"], "\"AVAILABLE\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_never_taken_for_the_next_question() {
    let behaviour = Behaviour::new(|q: Question| if q.holds(900) { q.right().late(ms(300)) } else { q.right() });
    let device = TcpDevice::start(behaviour).await;
    let rest = "defaults: {interval: 10, report: always}\nrequests: {retry_refused: 1000}\nvariables: {a: {holding_register: 0}, z: {holding_register: 900}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("late answers", |edge| edge.values("a").len() > 100 && !edge.values("z").is_empty()).await;
    assert!(edge.values("a").iter().all(|value| value == "0"), "a: {:?}", edge.values("a"));
    assert_eq!(edge.values("z")[0], "NoAnswer");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_do_not_fit_the_question_are_never_used() {
    let wrong = |q: Question| match q.number % 7 {
        0 => Reaction::Astray(q.with(|_| 666).pdu()),
        1 => Reaction::Answer(vec![3, 4, 2, 154, 2, 154]),
        2 => Reaction::Answer(vec![3, 2, 2]),
        3 => Reaction::Answer(vec![4, 2, 2, 154]),
        4 => Reaction::Raw(vec![0xFF; 40]),
        5 => Reaction::Close,
        _ => q.right(),
    };
    let device = TcpDevice::start(Behaviour::new(wrong)).await;
    let rest = "defaults: {interval: 5, report: always}\nvariables: {a: {holding_register: 5}}";
    let mut edge = Edge::start(&yaml(device.port, ", retries: 10", rest), &Buses::new());
    edge.until("ten right answers", |edge| edge.values("a").len() == 10).await;
    assert_eq!(edge.values("a"), ["5"; 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_every_value_is_told_anew() {
    let mut device = TcpDevice::absent(Behaviour::new(|q| q.right())).await;
    let rest = "defaults: {interval: 20}\nvariables: {a: {holding_register: 5}}\nconstants: {model: {input_register: 7}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("the loss", |edge| edge.values("avail").len() == 1).await;
    let (error, _) = edge.status.last_error().expect("told");
    assert!(error.contains("cannot be opened (is the device on, is the port right?): Connection refused"), "{error}");
    device.restart().await;
    edge.until("the values", |edge| edge.state().len() == 3).await;
    device.stop();
    edge.until("the second loss", |edge| edge.values("avail").len() == 3).await;
    device.restart().await;
    edge.until("the values again", |edge| edge.values("a").len() == 2 && edge.values("model").len() == 2).await;
    let told: Vec<String> = edge.told().iter().map(|sample| sample.item.id.to_string()).collect();
    assert_eq!(edge.values("avail"), ["\"UNAVAILABLE\"", "\"AVAILABLE\"", "\"UNAVAILABLE\"", "\"AVAILABLE\""]);
    assert_eq!(told.iter().position(|id| id == "a"), Some(2), "AVAILABLE comes before values: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_closes_idle_connections_is_not_lost() {
    let device = TcpDevice::start(Behaviour::new(|q| Reaction::AnswerAndClose(q.right().pdu()))).await;
    let rest = "defaults: {interval: 20, report: always}\nvariables: {a: {holding_register: 5}}";
    let mut edge = Edge::start(&yaml(device.port, ", retries: 0", rest), &Buses::new());
    edge.until("many polls", |edge| edge.values("a").len() == 20).await;
    assert_eq!((edge.values("avail"), edge.values("a")), (vec!["\"AVAILABLE\"".to_owned()], vec!["5".to_owned(); 20]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_gives_one_value_at_a_time_is_asked_so() {
    let device = TcpDevice::start(Behaviour::new(|q| if q.count > 2 { q.exception(3) } else { q.right() })).await;
    let rest =
        "requests: {join: never}\nvariables: {a: {holding_register: 0}, b: {holding_register: 1, type: uint32}, c: {holding_register: 3}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("all three", |edge| edge.state().len() == 4).await;
    let state = edge.state();
    assert_eq!((state["a"].as_str(), state["b"].as_str(), state["c"].as_str()), ("0", "65538", "3"));
    assert!(device.behaviour.asked().iter().all(|q| q.count <= 2), "{:?}", device.behaviour.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_unit_costs_the_others_of_its_gateway_no_more_than_its_share() {
    let device = TcpDevice::start(Behaviour::new(|q| if q.unit == 2 { Reaction::Silence } else { q.right() })).await;
    let buses = Buses::new();
    let server = |unit: u8| format!(", timeout: 100, silent_share: 20, unit_id: {unit}");
    let plain = |text: String| text.replace("timeout: 200, max_reconnect_delay: 500", "max_reconnect_delay: 100");
    let rest = "defaults: {interval: 10, report: always}\nvariables: {a: {holding_register: 5}}";
    let mut silent = Edge::start(&plain(yaml(device.port, &server(2), rest)), &buses);
    let mut lively = Edge::start(&plain(yaml(device.port, &server(1), rest)), &buses);
    let began = Instant::now();
    silent.until("its loss", |edge| edge.values("avail").len() == 1).await;
    lively.until("five seconds of polls", |_| began.elapsed() > Duration::from_secs(5)).await;
    let (elapsed, asked) = (began.elapsed(), device.behaviour.asked());
    let waited = ms(100) * asked.iter().filter(|q| q.unit == 2).count() as u32;
    assert!(waited <= elapsed.mul_f64(0.2) + ms(500), "waited {waited:?} of {elapsed:?} for the silent unit");
    assert!(waited >= ms(600), "the silent unit is still looked for: {waited:?}");
    assert!(lively.values("a").len() > 50, "{} polls of the other unit", lively.values("a").len());
    assert_eq!(lively.values("avail"), ["\"AVAILABLE\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_device_does_not_slow_down_another() {
    let slow = TcpDevice::start(Behaviour::new(|q| q.right().late(ms(150)))).await;
    let fast = TcpDevice::start(Behaviour::new(|q| q.right())).await;
    let (buses, rest) = (Buses::new(), "defaults: {interval: 10, report: always}\nvariables: {a: {holding_register: 5}}");
    let mut slow = Edge::start(&yaml(slow.port, "", rest), &buses);
    let mut fast = Edge::start(&yaml(fast.port, "", rest), &buses);
    slow.until("ten slow answers", |edge| edge.values("a").len() == 10).await;
    let last = slow.told().last().map(|sample| sample.timestamp).expect("told");
    fast.until("fast answers", |edge| edge.told().last().is_some_and(|sample| sample.timestamp >= last)).await;
    let meanwhile = fast.values("a").len();
    assert!(meanwhile > 30, "{meanwhile} fast answers in the time of ten slow ones");
    let (error, _) = slow.status.last_error().expect("the interval cannot be kept");
    assert!(error.contains("takes longer than its interval of 10 ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_fell_out_for_long_are_told_as_a_gap() {
    // One answer takes longer than many polls: as if the process had stood still, or the line had been busy.
    let device = TcpDevice::start(Behaviour::new(|q| if q.number == 20 { q.right().late(ms(1500)) } else { q.right() })).await;
    let rest = "defaults: {interval: 20}\nvariables: {a: {holding_register: 5}}";
    let yaml = yaml(device.port, "", rest).replace("timeout: 200", "timeout: 5000");
    let mut edge = Edge::start(&yaml, &Buses::new());
    edge.until("the gap", |edge| edge.values("gap").len() == 1).await;
    let gap = edge.values("gap").concat();
    assert!(gap.contains("not_polled") && gap.contains("polls fell out"), "{gap}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_reach_its_device_means_that_the_device_is_lost() {
    let device = TcpDevice::start(Behaviour::new(|q| q.exception(0x0B))).await;
    let rest = "defaults: {interval: 20}\nvariables: {a: {holding_register: 5}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("the loss", |edge| edge.values("avail").len() == 1).await;
    assert!(edge.status.last_error().is_some_and(|(error, _)| error.contains("GatewayTargetDeviceFailedToRespond (0x0B)")));
    device.behaviour.change(|q| q.right());
    edge.until("the value", |edge| edge.values("a").len() == 1).await;
    device.behaviour.change(|q| q.exception(0x0A));
    edge.until("the second loss", |edge| edge.values("avail").len() == 3).await;
    assert!(edge.stop().await.iter().all(|sample| sample.quality == Quality::Good), "tags are not repeated as bad when a device is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_device_is_asked_again() {
    let device = TcpDevice::start(Behaviour::new(|q| if q.number % 2 == 0 { q.exception(6) } else { q.right() })).await;
    let rest = "defaults: {interval: 20, report: always}\nvariables: {a: {holding_register: 5}}";
    let mut edge = Edge::start(&yaml(device.port, "", rest), &Buses::new());
    edge.until("values", |edge| edge.values("a").len() == 5).await;
    assert_eq!(edge.values("a"), ["5"; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rtu_frames_through_a_device_server_are_understood() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let behaviour = Behaviour::new(|q: Question| if q.holds(900) { q.right().late(ms(150)) } else { q.right() });
    let late = behaviour.clone();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let behaviour = late.clone();
            tokio::spawn(async move { support::serve_rtu(stream, behaviour).await.ok() });
        }
    });
    let rest = "defaults: {interval: 10, report: always}\nvariables: {a: {holding_register: 0}, z: {holding_register: 900}}";
    let server_keys = ", framing: rtu, settle_time: 200, timeout: 100";
    let mut edge = Edge::start(&yaml(port, server_keys, rest).replace("timeout: 200, ", ""), &Buses::new());
    edge.until("values", |edge| edge.values("a").len() > 30 && !edge.values("z").is_empty()).await;
    assert!(edge.values("a").iter().all(|value| value == "0"), "a: {:?}", edge.values("a"));
    assert!(edge.status.last_error().is_some());
    server.abort();
}
