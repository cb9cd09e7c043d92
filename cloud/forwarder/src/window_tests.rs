use super::{Entry, Limits, Step, Window};
use crate::stream::Last;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    offset: i64,
    asset: Arc<str>,
    item: u8,
    id: String,
    is_resent: bool,
    newest: Option<String>,
}

impl Entry for Event {
    fn offset(&self) -> i64 {
        self.offset
    }

    fn asset(&self) -> &Arc<str> {
        &self.asset
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn is_resent(&self) -> bool {
        self.is_resent
    }
}

fn event(offset: i64, asset: u8) -> Event {
    Event { offset, asset: Arc::from(format!("ASSET-{asset}")), item: 0, id: format!("edge:7:{offset}"), is_resent: false, newest: None }
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
fn an_event_that_came_late_is_looked_up_and_says_nothing_about_others() {
    let (mut window, now) = (window(100), Instant::now());
    [Event { is_resent: true, ..event(1, 1) }, event(2, 1), Event { is_resent: true, ..event(3, 1) }]
        .into_iter()
        .for_each(|e| window.push(e));
    assert_eq!(steps(&mut window, now), ["1?"]);
    window.absent(1);
    assert_eq!(steps(&mut window, now), ["1"]);
    assert!(window.finished(1).is_some());
    assert_eq!(steps(&mut window, now), ["2?"]);
    window.absent(2);
    assert_eq!(steps(&mut window, now), ["2"]);
    assert!(window.finished(2).is_some());
    assert_eq!(steps(&mut window, now), ["3?"]);
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

/// A stream that remembers no ids: what stands there twice was published twice.
#[derive(Default)]
struct Stream(HashMap<Arc<str>, Vec<Event>>);

impl Stream {
    fn publish(&mut self, event: Event) {
        self.0.entry(event.asset.clone()).or_default().push(event);
    }

    /// The last message on an event's subject.
    fn last(&self, event: &Event) -> Option<Last> {
        let last = self.0.get(&event.asset)?.iter().rfind(|held| held.item == event.item)?;
        Some(Last::new(last.id.clone(), last.newest.clone()))
    }
}

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
    /// The same, and everything from the first event on that is not finished is read again.
    Restart {
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
        1 => (0_usize..6).prop_map(|handled| Fault::Restart { handled }),
    ]
}

/// A partition: events of five assets with two items each, some of which come later than they were numbered, and marked.
fn partition() -> impl Strategy<Value = Vec<Event>> {
    let delay = prop_oneof![4 => Just(0), 1 => 1_usize..8];
    proptest::collection::vec((0_u8..5, 0_u8..2, delay), 1..60).prop_map(|events| {
        let mut numbered: Vec<_> = events.into_iter().enumerate().collect();
        numbered.sort_by_key(|(n, (_, _, delay))| n + delay);
        (0..)
            .zip(numbered)
            .map(|(offset, (n, (asset, item, delay)))| Event {
                item,
                id: format!("edge:7:{n}"),
                is_resent: delay > 0,
                ..event(offset, asset)
            })
            .collect()
    })
}

proptest! {
    /// Requests are handled in any order: leaders change, servers differ.
    #[test]
    fn whatever_breaks_the_stream_holds_every_event_once_and_in_order(
        events in partition(),
        faults in proptest::collection::vec((fault(), any::<usize>()), 0..150),
    ) {
        let (mut window, mut stream, mut now) = (window(3), Stream::default(), Instant::now());
        let (mut wire, mut finished) = (Vec::new(), HashSet::new());
        events.iter().for_each(|event| window.push(event.clone()));
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
                Fault::Break { handled } | Fault::Restart { handled } => {
                    for (is_question, event) in wire.drain(..).take(handled) {
                        if !is_question { stream.publish(event); }
                    }
                    window.connection_lost();
                    if matches!(fault, Fault::Restart { .. }) {
                        window = self::window(3);
                        events.iter().skip_while(|event| finished.contains(&event.offset)).for_each(|event| window.push(event.clone()));
                    }
                    continue;
                }
                Fault::None | Fault::LoseAnswer => {}
            }
            let is_answered = matches!(fault, Fault::None);
            let offset = event.offset;
            if !is_question {
                stream.publish(event);
                if is_answered { finished.extend(window.finished(offset).map(|event| event.offset)); }
            } else if is_answered && let Some(waiting) = window.get_mut(offset) {
                match stream.last(&event) {
                    Some(last) if last.proves(&event) => finished.extend(window.finished(offset).map(|event| event.offset)),
                    last => {
                        waiting.newest = last.and_then(|last| last.newest_behind(&event));
                        window.absent(offset);
                    }
                }
            }
        }
        prop_assert_eq!(finished.len(), events.len());
        for (asset, held) in &stream.0 {
            let mut seen = HashSet::new();
            let (first, again): (Vec<&Event>, Vec<&Event>) = held.iter().partition(|event| seen.insert(event.offset));
            let first: Vec<i64> = first.into_iter().map(|event| event.offset).collect();
            let expected: Vec<i64> = events.iter().filter(|event| event.asset == *asset).map(|event| event.offset).collect();
            prop_assert_eq!(first, expected, "{}", asset);
            prop_assert!(again.iter().all(|event| event.is_resent), "{asset}: {again:?} came twice");
        }
    }
}
