//! What a person asks a device before the edge works with it: what it has, and whether it has what a device file names.

mod support;

use std::ops::ControlFlow;
use std::time::Duration;

use gateway_modbus::{Buses, Endpoint, Framing, Left, Most, Pace, Payload, Presence, Scanner, Sharing, Span, Table, Timing, Why, probe};
use support::{Behaviour, Question, Reaction, TcpDevice, config};

/// Units 1 and 9. Of unit 1: floats with swapped words in holding registers 10 to 89, at most 20 at once; coils 0 to 4; the function of
/// discrete inputs is unknown, and there are no input registers.
fn meter(q: Question) -> Reaction {
    if q.unit == 200 {
        return q.exception(0x0B);
    }
    if q.unit != 1 && q.unit != 9 {
        return Reaction::Silence;
    }
    let within = |first: u16, last: u16| q.start >= first && q.start + q.count <= last + 1;
    match q.function {
        1 if within(0, 4) => q.right(),
        2 => q.exception(0x01),
        3 if within(10, 89) && q.count <= 20 => q.with(|address| {
            let bits = (f32::from(address / 2) * 1.7 + 0.37).to_bits();
            if address.is_multiple_of(2) { bits as u16 } else { (bits >> 16) as u16 }
        }),
        _ => q.exception(0x02),
    }
}

fn scanner(port: u16) -> Scanner {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port, framing: Framing::Tcp, sharing: Sharing::Shared };
    Scanner::new(&endpoint, Timing { timeout: Duration::from_millis(200), ..Timing::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn units_ranges_batch_limit_and_word_order_are_found() {
    let device = TcpDevice::start(Behaviour::new(meter)).await;
    let scanner = scanner(device.port);
    let mut present = Vec::new();
    for unit in [1, 2, 9, 200] {
        match scanner.presence(unit).await.expect("the socket is open") {
            Presence::Answers => present.push(unit),
            Presence::Silent => {}
            Presence::Garbled(detail) => panic!("unit {unit}: {detail}"),
        }
    }
    assert_eq!(present, [1, 9], "unit 2 is silent, and the gateway has no answer from unit 200");
    let mut last = None;
    let mapped = scanner
        .map(1, &Table::ALL, &(0..=299), |progress| {
            last = Some((progress.table, progress.at));
            ControlFlow::Continue(())
        })
        .await
        .expect("it answers");
    let ranges = [(Table::Coils, 0, 5), (Table::HoldingRegisters, 10, 80)];
    assert_eq!(mapped.ranges, ranges.map(|(table, start, count)| Span::new(table, start, count).expect("valid")));
    assert_eq!((mapped.most_registers, mapped.most_bits), (Some(Most::Exactly(20)), Some(Most::AtLeast(5))));
    let order = mapped.word_order.expect("it sends floats");
    assert!(order.order == "CDAB" && order.sensible == 40, "{order:?}");
    assert!(matches!(&mapped.contents[0], (Table::Coils, 0, Payload::Bits(bits)) if bits.len() == 5), "{:?}", mapped.contents);
    let Payload::Registers(registers) = &mapped.contents[1].2 else { panic!("{:?}", mapped.contents) };
    assert_eq!((registers.len(), order.number(&registers[..2])), (80, Some(8.87)));
    assert_eq!(last, Some((Table::HoldingRegisters, 299)), "every address was looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_which_the_device_falls_silent_is_left_and_what_it_has_is_kept() {
    let reaction = |q: Question| match q.function {
        1 => Reaction::Silence,
        2 if q.start >= 2 => q.exception(0x02),
        3 if q.start + q.count > 5 => Reaction::Silence,
        _ => q.right(),
    };
    let mut device = TcpDevice::start(Behaviour::new(reaction)).await;
    let tables = [Table::Coils, Table::HoldingRegisters, Table::DiscreteInputs];
    let mapped = scanner(device.port).map(1, &tables, &(0..=19), |_| ControlFlow::Continue(())).await.expect("the socket is open");
    let silent = |table, since| Left { table, since, why: Why::Silent };
    assert_eq!(mapped.left, [silent(Table::Coils, 0), silent(Table::HoldingRegisters, 5)]);
    let found: Vec<_> = mapped.ranges.iter().map(|span| (span.table(), span.start(), span.count())).collect();
    assert_eq!(found[0], (Table::HoldingRegisters, 0, 5));
    assert_eq!((found[1].0, found[1].1), (Table::DiscreteInputs, 0), "the tables behind it are looked at");
    device.stop();
    let error = scanner(device.port).presence(1).await.expect_err("nobody listens").to_string();
    assert!(error.contains("cannot be opened"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_busy_for_good_is_left_and_one_that_is_busy_for_a_while_is_not() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let reaction = move |q: Question| match q.function {
        1 => q.exception(0x06),
        // Each answer comes at the third try.
        _ if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 < 2 => q.exception(0x06),
        _ if q.start + q.count > 3 => q.exception(0x02),
        _ => q.right(),
    };
    let device = TcpDevice::start(Behaviour::new(reaction)).await;
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: device.port, framing: Framing::Tcp, sharing: Sharing::Shared };
    let scanner = Scanner::new(&endpoint, Timing { timeout: Duration::from_millis(40), ..Timing::default() });
    let mut paces = Vec::new();
    let hear = |progress: gateway_modbus::Progress| {
        paces.push(progress.pace);
        ControlFlow::Continue(())
    };
    let mapped = scanner.map(1, &[Table::Coils, Table::HoldingRegisters], &(0..=59), hear).await.expect("it answers");
    assert_eq!(mapped.left, [Left { table: Table::Coils, since: 0, why: Why::Busy }]);
    assert_eq!(mapped.ranges, [Span::new(Table::HoldingRegisters, 0, 3).expect("valid")]);
    assert!(paces.contains(&Pace::Busy), "nobody was told what takes so long");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_gives_in_long_answers_alone_is_not_taken_for_what_it_has() {
    let reaction = |q: Question| if q.start >= 16 { q.exception(0x02) } else { q.right() };
    let device = TcpDevice::start(Behaviour::new(reaction)).await;
    let mapped = scanner(device.port).map(1, &[Table::Coils], &(0..=199), |_| ControlFlow::Continue(())).await.expect("it answers");
    assert_eq!(mapped.ranges, [Span::new(Table::Coils, 0, 16).expect("valid")]);
    assert!(matches!(&mapped.contents[..], [(Table::Coils, 0, Payload::Bits(bits))] if bits.len() == 16), "{:?}", mapped.contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_somebody_ends_keeps_what_was_found() {
    let device = TcpDevice::start(Behaviour::new(meter)).await;
    let hear = |progress: gateway_modbus::Progress| match progress.table {
        Table::HoldingRegisters if progress.at > 40 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let mapped = scanner(device.port).map(1, &[Table::HoldingRegisters, Table::Coils], &(0..=299), hear).await.expect("it answers");
    let [left, rest] = mapped.left[..] else { panic!("{:?}", mapped.left) };
    assert_eq!(rest, Left { table: Table::Coils, since: 0, why: Why::Stopped });
    assert!(left.why == Why::Stopped && left.table == Table::HoldingRegisters && left.since > 40, "{left:?}");
    let found = mapped.ranges[0];
    assert_eq!((found.start(), found.end()), (10, u32::from(left.since)), "up to there it was looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_device_does_not_have_is_told_with_what_may_be_meant() {
    let device = TcpDevice::start(Behaviour::new(meter)).await;
    let variables = "variables:
  there: {holding_register: 10, type: float32, word_order: CDAB, unit: V, tag: T}
  table: {input_register: 12, type: float32, word_order: CDAB, tag: T}
  one: {holding_register: 90, type: uint16, tag: T}
  type: {holding_register: 88, type: float64, tag: T}
  relay: {coil: 3, tag: T}
  input: {discrete_input: 2, tag: T}
";
    let config = config(&format!("server: {{host: 127.0.0.1, port: {}, timeout: 200}}\n{variables}", device.port));
    let findings = probe(&config, &Buses::new()).await.expect("it answers");
    let answers: Vec<_> =
        findings.iter().map(|f| (f.item.as_str(), f.answer.clone().unwrap_or_else(|why| format!("NOT: {why}")))).collect();
    for ((item, answer), (expected_item, expected)) in answers.iter().zip([
        ("there", "8.87 V"),
        ("table", "input registers 12 to 13"),
        ("one", "holding register 89 answers: does the manual count from 1?"),
        ("type", "holding register 88 answers: is the type right?"),
        ("relay", "true"),
        ("input", "coil 2 answers: is it that kind of address?"),
    ]) {
        let is_fine = match item {
            &"table" => answer.starts_with("NOT: IllegalDataAddress") && answer.contains("holding registers 12 to 13 answers"),
            _ => answer.ends_with(expected),
        };
        assert!(*item == expected_item && is_fine, "{item}: {answer}");
    }
    let silent = support::config(&format!("server: {{host: 127.0.0.1, port: {}, unit_id: 3, timeout: 100}}\n{variables}", device.port));
    let error = probe(&silent, &Buses::new()).await.expect_err("unit 3 is not there");
    assert!(error.contains("unit 3") && error.contains("did not answer"), "{error}");
}
