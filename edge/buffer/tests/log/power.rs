//! Power cuts by the thousand: at any operation of whole histories, again while the log starts, together with full and failing disks. None
//! loses what was durable, none keeps the log from opening. What exactly is checked stands in `model.rs`.

use std::ops::Range;

use edge_buffer::WhenFull;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::model::{Action, Run, action, cases};

fn history(length: Range<usize>) -> impl Strategy<Value = (WhenFull, u64, Vec<Action>)> {
    let when_full = prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::RefuseNew)];
    let retain = prop_oneof![Just(0), Just(20_000), Just(u64::MAX)];
    // A loss is checked to the entry on disks that can be read.
    let is_readable = |action: &Action| !matches!(action, Action::FailReads(_));
    let actions = (any::<bool>(), prop::collection::vec(action(), length)).prop_map(move |(has_bad_sectors, mut actions)| {
        actions.retain(|action| has_bad_sectors || is_readable(action));
        actions
    });
    (when_full, retain, actions)
}

/// Lives through a history and a last power cut; how often the power went.
fn live(seed: u64, (when_full, retain, actions): &(WhenFull, u64, Vec<Action>)) -> u64 {
    let mut run = Run::new(seed, *when_full, *retain);
    for action in actions {
        run.run(action);
    }
    run.sim.no_faults();
    run.restart(true);
    run.check_losses();
    run.cuts
}

#[test]
fn nothing_that_was_durable_is_ever_lost() {
    let mut runner = TestRunner::new(cases(500));
    let cuts = std::cell::Cell::new(0);
    let result = runner.run(&(any::<u64>(), history(10..60)), |(seed, history)| {
        cuts.set(cuts.get() + live(seed, &history));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{} power cuts", cuts.get());
    assert!(cuts.get() > 2000, "only {} power cuts", cuts.get());
}

/// `OPENFACTORY_LIVES=0..100000` for a long run, or `=734..735` to live one of them again: a seed gives the same history on the same disk.
/// Only which entries are committed together is up to the threads.
#[test]
fn a_long_life_with_many_power_cuts_loses_nothing() {
    let lives = std::env::var("OPENFACTORY_LIVES").unwrap_or_else(|_| "0..12".into());
    let range = lives.split_once("..").and_then(|(from, to)| Some(from.parse::<u64>().ok()?..to.parse().ok()?));
    let range = range.unwrap_or_else(|| panic!("OPENFACTORY_LIVES is {lives:?}; a range of seeds is needed, e.g. 0..1000"));
    let mut cuts = 0;
    for seed in range.clone() {
        println!("seed {seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let life = history(600..601).new_tree(&mut runner).expect("a history").current();
        cuts += live(seed, &life);
    }
    println!("{cuts} power cuts");
    assert!(cuts > 100 * (range.end - range.start), "only {cuts} power cuts");
}

/// A short history in which everything happens that a log does by itself.
fn everything() -> Vec<Action> {
    vec![
        Action::Append(vec![30, 5, 60]),
        Action::Acknowledge(50),
        Action::Append(vec![80]),
        Action::Keep(1, 30),
        Action::Append(vec![100, 100]),
        Action::Acknowledge(90),
        Action::Refuse(7),
        Action::Append(vec![200]),
        Action::Tell,
        Action::Append(vec![50, 10]),
    ]
}

#[test]
fn a_power_cut_at_every_single_operation_of_a_run_is_survived() {
    let mut cuts = 0;
    for seed in 0..4 {
        for at in 0.. {
            let mut run = Run::new(seed, WhenFull::DropOldest, 10_000);
            let before = run.sim.operations();
            run.sim.light_fuse(at);
            everything().iter().for_each(|action| run.run(action));
            if run.sim.operations() - before < at {
                break;
            }
            run.restart(true);
            run.check_losses();
            cuts += run.cuts;
        }
    }
    assert!(cuts > 400, "only {cuts} power cuts");
}

#[test]
fn a_second_power_cut_at_every_single_operation_of_the_start_is_survived() {
    let mut cuts = 0;
    for at in 0.. {
        let mut run = Run::new(at, WhenFull::DropOldest, 10_000);
        run.sim.light_fuse(at);
        for action in everything() {
            run.act(&action);
            if run.sim.is_dead() {
                break;
            }
        }
        if !run.sim.is_dead() {
            break;
        }
        for again in 0.. {
            let mut fork = run.fork(at ^ again << 32);
            let came_that_far = fork.open_with_cut(again);
            fork.run(&Action::Append(vec![20]));
            fork.restart(true);
            fork.check_losses();
            cuts += fork.cuts;
            if !came_that_far {
                break;
            }
        }
    }
    println!("{cuts} power cuts");
    assert!(cuts > 1000, "only {cuts} power cuts");
}
