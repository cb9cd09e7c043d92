//! What a run found and did, for people and for programs.

use std::fmt::Arguments;

use asset_stream::Timestamp;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use edge_mirror::replay::{Action, Comparison, Outcome, Plan, Stretch};
use serde_json::{Value as Json, json};

use super::Done;
use service::units::printed;

/// For programs: one object, in one line.
pub(crate) fn json(done: &Done) -> String {
    let (command, plan, outcome) = match done {
        Done::Planned(plan) => ("replay", plan, None),
        Done::Replayed(outcome) => ("replay", &outcome.plan, Some(outcome)),
        Done::Reconciled(outcome, _) => ("reconcile", &outcome.plan, Some(outcome)),
    };
    let dry_run = matches!(done, Done::Planned(_) | Done::Reconciled(_, Action::Report));
    let mut json = json!({
        "command": command,
        "dry_run": dry_run,
        "complete": done.is_complete(),
        "events": plan.events,
        "bytes": plan.bytes,
        "assets": plan.assets,
        "sequences": plan.sequences,
        "times": times(plan.times),
        "refused_before": plan.refused,
        "unreadable": plan.unreadable,
        "backlog": plan.backlog,
        "first_retained": plan.first_retained,
        "oldest_retained": plan.oldest_retained.map(time),
    });
    if let Some(outcome) = outcome.filter(|_| !dry_run) {
        json["of-replay"] = outcome.id.clone().into();
        json["resumed"] = outcome.is_resumed.into();
        json["sent"] = outcome.sent.into();
        json["verified"] = outcome.verified.into();
        json["refused"] = outcome.refused.into();
    }
    if let Some(comparison) = outcome.and_then(|outcome| outcome.comparison.as_ref()) {
        json["records"] = comparison.records.into();
        json["total"] = stretch(&comparison.total());
        json["stretches"] = comparison.stretches.iter().map(stretch).collect();
        json["altered"] = json!(comparison.altered);
    }
    format!("{json}\n")
}

fn stretch(stretch: &Stretch) -> Json {
    json!({
        "first": stretch.first,
        "last": stretch.last,
        "times": times(stretch.times),
        "present": stretch.present,
        "missing": stretch.missing,
        "expired": stretch.expired,
        "refused": stretch.refused,
        "unreadable": stretch.unreadable,
        "repeated": stretch.repeated,
        "marked": stretch.marked,
        "altered_groups": stretch.altered,
    })
}

fn time(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}

fn times(times: Option<(i64, i64)>) -> Option<[String; 2]> {
    times.map(|(from, to)| [time(from), time(to)])
}

/// For people.
pub(crate) fn text(done: &Done) -> String {
    let mut text = String::new();
    match done {
        Done::Planned(plan) => {
            describe(&mut text, plan);
            line(&mut text, format_args!("nothing was sent: --dry-run"));
        }
        Done::Replayed(outcome) => {
            describe(&mut text, &outcome.plan);
            sent(&mut text, outcome);
        }
        Done::Reconciled(outcome, action) => {
            describe(&mut text, &outcome.plan);
            if let Some(comparison) = &outcome.comparison {
                compare(&mut text, comparison);
            }
            match action {
                Action::Report => line(&mut text, format_args!("nothing was sent: --dry-run")),
                Action::Send => sent(&mut text, outcome),
            }
        }
    }
    text
}

fn line(text: &mut String, line: Arguments<'_>) {
    text.push_str(&line.to_string());
    text.push('\n');
}

/// What the log retains of the selection.
fn describe(text: &mut String, plan: &Plan) {
    match (plan.sequences, plan.times) {
        (Some((first, last)), Some((from, to))) => {
            let (events, assets) = (plan.events, plan.assets.len());
            let plural = if assets == 1 { "" } else { "s" };
            line(text, format_args!("selected   {events} events of {assets} asset{plural}, {}", printed(plan.bytes)));
            line(text, format_args!("times      {} to {}", time(from), time(to)));
            line(text, format_args!("sequences  {first} to {last}"));
        }
        _ => line(text, format_args!("selected   nothing: the log holds no such events that were mirrored")),
    }
    if plan.first_retained > 1 {
        let since = plan.oldest_retained.map_or_else(String::new, |oldest| format!(", of {}", time(oldest)));
        line(text, format_args!("retained   from event {} on{since}; what came before is on this edge no more", plan.first_retained));
    }
    for (count, what) in [
        (plan.refused, "events were refused by Kafka before, as gap events tell, and are not sent"),
        (plan.unreadable, "sequences cannot be read from the log any more"),
        (plan.backlog, "events more were not mirrored yet: the running edge sends them, unmarked"),
    ] {
        if count > 0 {
            line(text, format_args!("           {count} {what}"));
        }
    }
}

fn sent(text: &mut String, outcome: &Outcome) {
    let (id, sent) = (&outcome.id, outcome.sent);
    if outcome.is_resumed {
        line(text, format_args!("resumed    an unfinished run of the same command"));
    }
    match outcome.verified {
        Some(verified) => {
            line(text, format_args!("sent       {sent} events, marked of-replay: {id}; {verified} of them found when reading once more"))
        }
        None if sent == 0 => line(text, format_args!("sent       nothing")),
        None => line(text, format_args!("sent       {sent} events, marked of-replay: {id}")),
    }
    if outcome.refused > 0 {
        line(text, format_args!("           {} events were refused by Kafka", outcome.refused));
    }
    if !outcome.is_complete {
        line(text, format_args!("incomplete: the same command goes on with it, --restart begins anew"));
    }
}

/// How many events of a stretch fared so.
type Count = fn(&Stretch) -> u64;

/// The table's columns.
const COLUMNS: [(&str, Count); 8] = [
    ("present", |stretch| stretch.present),
    ("missing", |stretch| stretch.missing),
    ("expired", |stretch| stretch.expired),
    ("refused", |stretch| stretch.refused),
    ("unreadable", |stretch| stretch.unreadable),
    ("repeated", |stretch| stretch.repeated),
    ("marked", |stretch| stretch.marked),
    ("altered", |stretch| stretch.altered),
];

/// Those that are always shown.
const NEEDED: [&str; 2] = ["present", "missing"];

/// The table by stretch of sequences.
fn compare(text: &mut String, comparison: &Comparison) {
    let total = comparison.total();
    // What never happened needs no column.
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(name, count)| NEEDED.contains(name) || count(&total) > 0).collect();
    let row = |stretch: &Stretch, name: String| {
        let from = stretch.times.map_or_else(String::new, |(from, _)| time(from)[..19].to_owned());
        [name, from].into_iter().chain(columns.iter().map(|(_, count)| count(stretch).to_string())).collect::<Vec<_>>()
    };
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["sequences", "from (UTC)"].into_iter().chain(columns.iter().map(|(name, _)| *name)));
    for stretch in &comparison.stretches {
        table.add_row(row(stretch, format!("{}-{}", stretch.first, stretch.last)));
    }
    if comparison.stretches.len() > 1 {
        table.add_row(row(&total, "all".into()));
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    line(text, format_args!("Kafka      {} records read", comparison.records));
    line(text, format_args!("{}", table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")));
    if total.expired > 0 {
        let days = comparison.retention.unwrap_or_default() as f64 / 86_400_000.0;
        line(
            text,
            format_args!(
                "expired: no longer in Kafka, and older than the {days:.1} days that the topic keeps: sent, they would be deleted at once"
            ),
        );
    }
    if total.repeated > 0 {
        line(text, format_args!("repeated: further records without a mark. Does another box use this edge's id?"));
    }
    if total.altered > 0 {
        let places: Vec<String> = comparison.altered.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        line(
            text,
            format_args!("altered: of {} groups of 64 sequences some contents differ from the log's: {}", total.altered, places.join(", ")),
        );
    }
}
