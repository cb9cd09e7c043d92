use super::{Entry, Limits, Step, Window};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    offset: i64,
    asset: Arc<str>,
}

impl Entry for Event {
    fn offset(&self) -> i64 {
        self.offset
    }

    fn asset(&self) -> &Arc<str> {
        &self.asset
    }
}

fn event(offset: i64, asset: u8) -> Event {
    Event { offset, asset: Arc::from(format!("ASSET-{asset}")) }
}

fn window(in_flight: usize) -> Window<Event> {
    Window::new(Limits { in_flight, patience: Duration::from_secs(3) })
}

/// What was handed out, as `offset` or `offset?`.
fn steps(window: &mut Window<Event>, now: Instant) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some(step) = window.next(now) {
        steps.push(match step {
            Step::LookUp(event) => format!("{}?", event.offset),
            Step::Publish(event) => event.offset.to_string(),
        });
    }
    steps
}

#[test]
fn an_asset_waits_for_its_last_answer_and_others_do_not() {
    let (mut window, now) = (window(100), Instant::now());
    [event(1, 1), event(2, 1), event(3, 2)].into_iter().for_each(|e| window.push(e));
    assert_eq!(steps(&mut window, now), ["1?", "3?"]);
    window.absent(1);
    assert_eq!(steps(&mut window, now), ["1"]);
    assert!(window.finished(1).is_some());
    assert_eq!(steps(&mut window, now), ["2"], "an asset that was looked up once is not looked up again");
}

#[test]
fn what_the_stream_holds_already_is_finished_without_being_published() {
    let (mut window, now) = (window(100), Instant::now());
    [event(1, 1), event(2, 1)].into_iter().for_each(|e| window.push(e));
    assert_eq!(steps(&mut window, now), ["1?"]);
    assert!(window.finished(1).is_some());
    assert_eq!(steps(&mut window, now), ["2?"], "the next one may stand there too");
}

#[test]
fn an_unanswered_event_is_looked_up_and_a_late_answer_still_counts() {
    let (mut window, now) = (window(100), Instant::now());
    [event(1, 1), event(2, 1)].into_iter().for_each(|e| window.push(e));
    steps(&mut window, now);
    window.absent(1);
    steps(&mut window, now + Duration::from_secs(1));
    assert_eq!(window.expire(now + Duration::from_secs(3)), 0);
    assert_eq!(window.next_expiry(), Some(now + Duration::from_secs(4)));
    assert_eq!(window.expire(now + Duration::from_secs(4)), 1);
    assert!(window.finished(1).is_some(), "the answer came after all");
    assert_eq!(steps(&mut window, now + Duration::from_secs(4)), ["2?"]);
    assert!(window.finished(1).is_none());
}

#[test]
fn a_refused_event_is_published_again_before_the_next_one_of_its_asset() {
    let (mut window, now) = (window(100), Instant::now());
    [event(1, 1), event(2, 1)].into_iter().for_each(|e| window.push(e));
    steps(&mut window, now);
    window.absent(1);
    steps(&mut window, now);
    window.refused(1);
    assert_eq!(steps(&mut window, now), ["1"]);
}

#[test]
fn the_limit_bounds_what_is_under_way() {
    let (mut window, now) = (window(2), Instant::now());
    (1..=9).for_each(|n| window.push(event(i64::from(n), n)));
    assert_eq!(steps(&mut window, now).len(), 2);
    assert_eq!((window.under_way(), window.len()), (2, 9));
    window.connection_lost();
    assert_eq!((window.under_way(), window.len()), (0, 9));
}

/// A stream as JetStream keeps it: drops ids that it holds, tells the last id on a subject (an asset has one subject here).
#[derive(Default)]
struct Stream(HashMap<String, Vec<i64>>);

#[derive(Clone, Debug)]
enum Fault {
    None,
    /// The server refuses.
    Refuse,
    /// The request is lost.
    LoseRequest,
    /// The answer is lost.
    LoseAnswer,
    /// The connection breaks: every request that was not handled yet may still be, and no answer comes.
    Break {
        handled: usize,
    },
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Refuse),
        1 => Just(Fault::LoseRequest),
        1 => Just(Fault::LoseAnswer),
        1 => (0_usize..6).prop_map(|handled| Fault::Break { handled }),
    ]
}

proptest! {
    /// Requests are handled in any order: leaders change, servers differ.
    #[test]
    fn whatever_breaks_the_stream_holds_every_event_once_and_in_order(
        assets in proptest::collection::vec(0_u8..5, 1..60),
        faults in proptest::collection::vec((fault(), any::<usize>()), 0..150),
    ) {
        let (mut window, mut stream, mut now) = (window(3), Stream::default(), Instant::now());
        let (mut wire, mut finished) = (Vec::new(), Vec::new());
        for (offset, asset) in assets.iter().enumerate() {
            window.push(event(offset as i64, *asset));
        }
        // After the faults everything works: the end must come.
        let calm = std::iter::repeat((Fault::None, 0));
        for (turn, (fault, pick)) in faults.into_iter().chain(calm).enumerate() {
            prop_assert!(turn < 10_000, "it does not end: {window:?}");
            while let Some(step) = window.next(now) {
                wire.push(match step {
                    Step::LookUp(event) => (true, event.clone()),
                    Step::Publish(event) => (false, event.clone()),
                });
            }
            if wire.is_empty() {
                if window.len() == 0 {
                    break;
                }
                now += Duration::from_secs(3);
                window.expire(now);
                continue;
            }
            let (is_question, event) = wire.remove(pick % wire.len());
            match fault {
                Fault::LoseRequest => continue,
                Fault::Refuse => {
                    if is_question { window.unknown(event.offset) } else { window.refused(event.offset) }
                    continue;
                }
                Fault::Break { handled } => {
                    for (is_question, event) in wire.drain(..).take(handled) {
                        if !is_question { stream.publish(&event); }
                    }
                    window.connection_lost();
                    continue;
                }
                Fault::None | Fault::LoseAnswer => {}
            }
            let answered = matches!(fault, Fault::None);
            if is_question {
                let there = stream.0.get(&*event.asset).and_then(|held| held.last()).is_some_and(|last| *last >= event.offset);
                match (answered, there) {
                    (true, true) => finished.extend(window.finished(event.offset)),
                    (true, false) => window.absent(event.offset),
                    (false, _) => {}
                }
            } else {
                stream.publish(&event);
                if answered { finished.extend(window.finished(event.offset)); }
            }
        }
        prop_assert_eq!(finished.len(), assets.len());
        for (asset, held) in &stream.0 {
            let expected: Vec<i64> =
                assets.iter().enumerate().filter(|(_, a)| format!("ASSET-{a}") == **asset).map(|(offset, _)| offset as i64).collect();
            prop_assert_eq!(held, &expected, "{}", asset);
        }
    }
}

impl Stream {
    fn publish(&mut self, event: &Event) {
        let held = self.0.entry(event.asset.to_string()).or_default();
        if !held.contains(&event.offset) {
            held.push(event.offset);
        }
    }
}
