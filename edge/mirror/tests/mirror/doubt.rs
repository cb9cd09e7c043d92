//! Once, whatever breaks between sending and knowing.

use std::time::Duration;

use edge_buffer::{Cursor, Entry};
use edge_mirror::{Mirror, State};

use crate::proxy::Proxy;
use crate::support::{append, append_entries, config, create_topic, fresh, judge, kafka, open_log, read_all, wait_mirrored, wait_until};

#[test]
fn events_reach_kafka_once_and_unchanged_and_a_clean_restart_has_no_doubt() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("plain"));
    append(&bench.log, 20_000, 50);
    let mirror = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    append(&bench.log, 100, 7);
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    append(&bench.log, 100, 7);
    let mirror = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    assert_eq!(mirror.status().doubts, 0, "{:#?}", mirror.status());
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
}

#[test]
fn a_process_killed_between_sending_and_its_reports_leaves_each_event_once() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("killed"));
    create_topic(&kafka, &topic, &[]);
    let proxy = Proxy::before(&kafka);
    append(&bench.log, 1_000, 20);
    let first = Mirror::start(config(&proxy.address, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&first, &bench.log);
    wait_until("the cursor is kept", &first, || bench.log.cursor(Cursor::MIRROR).is_some_and(|c| c.sequence >= 900));

    proxy.hold_answers();
    append(&bench.log, 5_000, 20);
    wait_until("answers are held back", &first, || proxy.held() > 0 && first.status().outstanding == 5_000);
    wait_until("some of it stands", &first, || read_all(&kafka, &topic).len() > 1_000);
    drop(first);

    append(&bench.log, 500, 20);
    let second = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&second, &bench.log);
    let status = second.status();
    second.stop(Duration::from_secs(5));
    let records = read_all(&kafka, &topic);
    judge(&records, &bench.log, &[]);
    assert!(records.iter().all(|record| !record.is_marked), "nothing needed a mark");
    assert_eq!((status.doubts, status.resent, status.holes), (1, 0, 0), "{status:#?}");
}

#[test]
fn many_kills_under_load_with_a_breaking_link_leave_each_event_once() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("kills"));
    create_topic(&kafka, &topic, &[]);
    let proxy = Proxy::before(&kafka);
    let mut settings = config(&proxy.address, &topic);
    settings.request_timeout = Duration::from_millis(500);
    // The topic's ends are asked for at the same pace, while events are on their way.
    settings.announce_every = Duration::from_millis(20);
    for round in 0..6 {
        append(&bench.log, 3_000, 30);
        let mirror = Mirror::start(settings.clone(), bench.log.clone()).expect("starts");
        let target = bench.log.durable() - 2_000;
        wait_until("some of it is acknowledged", &mirror, || mirror.status().acknowledged > target);
        if round % 2 == 0 {
            let held = proxy.held();
            proxy.hold_answers();
            append(&bench.log, 2_000, 30);
            wait_until("answers are held back", &mirror, || proxy.held() > held);
        } else {
            append(&bench.log, 2_000, 30);
            proxy.cut();
            append(&bench.log, 2_000, 30);
        }
        drop(mirror);
        proxy.release();
    }
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
}

#[test]
fn what_cannot_be_read_back_within_the_limit_is_sent_again_and_marked() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("limit"));
    create_topic(&kafka, &topic, &[]);
    let proxy = Proxy::before(&kafka);
    append(&bench.log, 100, 10);
    let first = Mirror::start(config(&proxy.address, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&first, &bench.log);
    proxy.hold_answers();
    append(&bench.log, 2_000, 10);
    wait_until("some of it stands", &first, || read_all(&kafka, &topic).len() > 200);
    drop(first);

    let mut settings = config(&kafka, &topic);
    settings.doubt_limit_bytes = 10_000;
    let second = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&second, &bench.log);
    let status = second.status();
    second.stop(Duration::from_secs(5));
    assert!(status.resent > 1_000, "{status:#?}");

    // A reader that drops repeats by their sequence sees each event once and in order; every repeat carries the mark.
    let mut records = read_all(&kafka, &topic);
    let mut seen = std::collections::HashSet::new();
    records.retain(|record| {
        let is_new = seen.insert(record.sequence);
        assert!(is_new || record.is_marked, "an unmarked repeat: {record:?}");
        is_new
    });
    judge(&records, &bench.log, &[]);
}

/// Brokers reckon by record times when they forget producers.
#[test]
fn a_batch_of_an_old_backlog_whose_answer_was_lost_is_looked_for_and_not_just_sent_again() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("old"));
    create_topic(&kafka, &topic, &[("retention.ms", "-1")]);
    let proxy = Proxy::before(&kafka);
    append(&bench.log, 100, 10);
    let mut settings = config(&proxy.address, &topic);
    // As in earnest: it times out after more than five seconds of silence.
    settings.request_timeout = Duration::from_secs(10);
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    proxy.hold_answers();
    let two_days_ago = asset_stream::Timestamp::now().millis() - 2 * 86_400_000;
    // Of one asset, so that one request holds them all.
    let old = Entry { key: "ASSET-001".into(), timestamp: two_days_ago, value: b"{}".to_vec() };
    append_entries(&bench.log, vec![old; 10]);
    wait_until("it stands, and the answer is held back", &mirror, || proxy.held() > 0 && read_all(&kafka, &topic).len() == 110);
    wait_until("the producer is given up", &mirror, || mirror.status().last_error.is_some_and(|(error, _)| error.contains("forgotten")));
    proxy.release();
    wait_mirrored(&mirror, &bench.log);
    let status = mirror.status();
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
    assert_eq!((status.doubts, status.resent), (1, 0), "{status:#?}");
}

#[test]
fn without_a_cursor_the_topic_is_searched_by_time() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("no-cursor"));
    append(&bench.log, 3_000, 20);
    let first = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&first, &bench.log);
    first.stop(Duration::from_secs(5));
    bench.log.keep_cursor(Cursor::MIRROR, Cursor { sequence: 10, note: b"unreadable".to_vec() }).expect("kept");
    append(&bench.log, 200, 20);
    let second = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&second, &bench.log);
    assert_eq!(second.status().doubts, 1);
    second.stop(Duration::from_secs(5));
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
}

#[test]
fn stopping_never_waits_for_a_network_that_is_away() {
    let (bench, topic) = (open_log(), fresh("away"));
    // A port that nobody listens on: bound, and closed again.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    append(&bench.log, 10, 1);
    let mirror = Mirror::start(config(&format!("127.0.0.1:{port}"), &topic), bench.log).expect("starts without Kafka");
    assert_eq!(mirror.status().backlog, 10, "from the first moment on");
    wait_until("it says that no broker answers", &mirror, || mirror.status().state == State::Unreachable);
    let (status, turns) = (mirror.status(), mirror.progress());
    assert!(status.sentence.contains("onnection refused") || status.sentence.contains("kept on disk"), "{status:#?}");
    assert_eq!(status.backlog, 10);
    wait_until("its loop turns", &mirror, || mirror.progress() > turns);
    let began = std::time::Instant::now();
    mirror.stop(Duration::from_secs(10));
    assert!(began.elapsed() < Duration::from_secs(2), "stopping took {:?}", began.elapsed());
}
