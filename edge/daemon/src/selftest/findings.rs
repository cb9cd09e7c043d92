//! What the facts mean: reasons to put the log elsewhere, and what a person should know.
//!
//! A disk that says "kept" while the bytes are still in a cache is faster than the thing it is made of can be. The limits below are far from
//! what honest devices reach: a platter at 7,200 turns a minute comes by every 8.3 ms, flash takes some 200 µs to program a page, and no bus
//! in a box carries 8 GB/s to a disk one write at a time. Capacitors and battery-backed controllers are faster than that and keep their word; so
//! it is said what it looks like, never what it is.

use serde::Serialize;
use service::units::printed;

use crate::selftest::ground::{Device, Ground, Kind};
use crate::selftest::probe::Commits;
use crate::selftest::trial::Trial;

/// A commit on platters takes longer, in ms.
const PLATTER: f64 = 1.0;
/// Flash with a cache that it has to empty takes longer, in ms.
const FLASH: f64 = 0.1;
/// Whatever it is, asking it takes longer, in ms.
const ANYTHING: f64 = 0.01;
/// No disk takes more, in bytes a millisecond.
const BUS: f64 = 8e6;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Good to know.
    Note,
    /// The log should not lie here.
    Problem,
}

/// A sentence with its reason.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) text: String,
}

/// Everything that is to be said.
pub(super) fn find(ground: &Ground, commits: &[Commits], trial: &Trial) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(wrong) = &trial.wrong {
        findings.push(problem(format!("what was written does not come back: {wrong}")));
    }
    file_system(ground, &mut findings);
    options(ground, &mut findings);
    for device in &ground.devices {
        findings.extend(about(device, ground));
    }
    findings.extend(speed(ground, commits));
    findings
}

fn note(text: impl Into<String>) -> Finding {
    Finding { level: Level::Note, text: text.into() }
}

fn problem(text: impl Into<String>) -> Finding {
    Finding { level: Level::Problem, text: text.into() }
}

fn file_system(ground: &Ground, findings: &mut Vec<Finding>) {
    let name = ground.file_system.as_str();
    findings.extend(match name {
        "tmpfs" | "ramfs" | "devtmpfs" => Some(problem(format!("{name} is memory: nothing here survives a power cut, or a restart"))),
        "overlay" | "aufs" => Some(problem(format!(
            "{name} is the writable layer of a container: it goes with the container. Mount a volume for the log"
        ))),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "ceph" | "glusterfs" | "fuse.sshfs" => Some(problem(format!(
            "{name} is a network file system: the log stands still when the network does, which is when it is needed, and a sync is as true as the server's"
        ))),
        "vfat" | "msdos" | "exfat" | "ntfs" | "ntfs3" | "fuseblk" => Some(problem(format!(
            "{name} does not keep its own tables over a power cut: files may be gone, whatever was synced. Use ext4 or XFS"
        ))),
        "" => Some(note("the kernel does not tell which file system this is")),
        _ => None,
    });
}

fn options(ground: &Ground, findings: &mut Vec<Finding>) {
    for option in &ground.options {
        findings.extend(match option.as_str() {
            "nobarrier" | "barrier=0" | "barrier=none" => Some(problem(format!(
                "the file system is mounted with {option}: it does not tell the disk to empty its cache, so a sync promises what nobody keeps. Remove the option"
            ))),
            "data=writeback" => {
                Some(note("data=writeback: after a power cut, old bytes may stand where new ones were being written; the log may take them for damage"))
            }
            "sync" | "data=journal" => Some(note(format!("{option}: each byte is written with more work than the log asks for; slow, not wrong"))),
            _ => None,
        });
    }
}

fn about(device: &Device, ground: &Ground) -> Option<Finding> {
    let name = &device.name;
    match device.kind {
        Kind::Virtual => Some(note(format!(
            "{name} is a disk of a virtual machine: whether the host passes syncs on (cache=none or writethrough, not unsafe) cannot be seen from here"
        ))),
        Kind::Loop => {
            let file = device.backing_file.as_ref().map_or_else(|| "a file".into(), |file| file.display().to_string());
            Some(note(format!("{name} is {file}: what lies under that file counts, ask there")))
        }
        Kind::Memory => Some(problem(format!("{name} is memory: nothing here survives a power cut"))),
        Kind::Card => Some(note(format!(
            "{name} is a card or eMMC: many lose more than what was being written when the power goes. Pull the plug, often"
        ))),
        Kind::Rotating | Kind::Flash if device.is_removable => Some(note(format!(
            "{name} is removable: many USB sticks lose more than what was being written when the power goes. Pull the plug, often"
        ))),
        Kind::Unknown if ground.devices.len() == 1 => Some(note(format!("the kernel does not tell what {name} is"))),
        Kind::Rotating | Kind::Flash | Kind::Stacked | Kind::Unknown => None,
    }
}

/// The first reason to doubt what the disk says, if there is one.
fn speed(ground: &Ground, commits: &[Commits]) -> Option<Finding> {
    let (small, large) = (commits.first()?, commits.last()?);
    let usual = |commits: &Commits| format!("{} are kept in {:.3} ms", printed(commits.bytes as u64), commits.p50);
    let is_a = |kind| ground.bottom().find(|device| device.kind == kind);
    // Memory is as fast as it looks, and was told of.
    if ground.devices.is_empty() || is_a(Kind::Memory).is_some() {
        return None;
    }
    if let Some(disk) = is_a(Kind::Rotating).filter(|_| small.p50 < PLATTER) {
        return Some(problem(format!(
            "it looks as if {} lied: {}, and a platter needs some milliseconds to come by. A cache answers, and only if a battery keeps it alive does it keep its word",
            disk.name,
            usual(small)
        )));
    }
    if small.p50 < ANYTHING || large.bytes as f64 / large.p50 > BUS {
        return Some(problem(format!(
            "it looks as if the disk lied: {}, {}, and no disk is as fast as that. Is something between it and the file system that answers in its place?",
            usual(small),
            usual(large)
        )));
    }
    let cached = is_a(Kind::Flash).filter(|disk| disk.write_cache.as_deref() == Some("write back"));
    cached.filter(|_| small.p50 < FLASH).map(|disk| {
        note(format!(
            "{} says that it has a cache to be emptied, and {}: faster than flash can be written. That is right only if it has capacitors (power-loss protection): look into its data sheet",
            disk.name,
            usual(small)
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Level, find};
    use crate::selftest::ground::{Device, Ground, Kind};
    use crate::selftest::probe::Commits;
    use crate::selftest::trial::Trial;

    fn trial(wrong: Option<&str>) -> Trial {
        Trial { events: 1, events_per_second: 1.0, bytes: 1, bytes_from_disk: None, wrong: wrong.map(str::to_owned) }
    }

    fn found(file_system: &str, option: &str, kind: Kind, micros: [u64; 2]) -> Vec<(Level, String)> {
        let device = Device { name: "sda".into(), kind, write_cache: Some("write back".into()), ..Device::default() };
        let ground = Ground { file_system: file_system.into(), options: vec![option.into()], devices: vec![device], ..Ground::default() };
        let commits = [(4 << 10, micros[0]), (256 << 10, micros[1])].map(|(bytes, n)| Commits::new(bytes, vec![Duration::from_micros(n)]));
        find(&ground, &commits, &trial(None)).into_iter().map(|finding| (finding.level, finding.text)).collect()
    }

    #[test]
    fn honest_disks_are_not_suspected() {
        for (kind, micros) in [(Kind::Rotating, [8_000, 11_000]), (Kind::Flash, [600, 1_500]), (Kind::Flash, [150, 400])] {
            assert_eq!(found("ext4", "rw", kind, micros), [], "{kind:?} {micros:?}");
        }
    }

    #[test]
    fn each_reason_to_put_the_log_elsewhere_is_a_problem() {
        let cases = [
            ("tmpfs", "rw", Kind::Flash, [600, 1_500], "memory"),
            ("vfat", "rw", Kind::Flash, [600, 1_500], "ext4"),
            ("nfs4", "rw", Kind::Flash, [600, 1_500], "network"),
            ("overlay", "rw", Kind::Flash, [600, 1_500], "container"),
            ("ext4", "nobarrier", Kind::Flash, [600, 1_500], "nobarrier"),
            ("ext4", "rw", Kind::Rotating, [300, 900], "platter"),
            ("ext4", "rw", Kind::Virtual, [5, 40], "no disk is as fast"),
            ("ext4", "rw", Kind::Flash, [15, 20], "no disk is as fast"),
            ("ext4", "rw", Kind::Memory, [5, 40], "memory"),
        ];
        for (file_system, option, kind, micros, reason) in cases {
            let found = found(file_system, option, kind, micros);
            let problems: Vec<_> = found.iter().filter(|(level, _)| *level == Level::Problem).collect();
            assert!(problems.len() == 1 && problems[0].1.contains(reason), "expected one problem that names {reason:?}, seen {found:?}");
        }
    }

    #[test]
    fn flash_that_needs_capacitors_to_be_honest_is_only_told() {
        let found = found("ext4", "rw", Kind::Flash, [40, 90]);
        assert!(matches!(&found[..], [(Level::Note, text)] if text.contains("power-loss protection")), "{found:?}");
    }

    #[test]
    fn what_does_not_come_back_is_a_problem() {
        let findings = find(&Ground::default(), &[], &trial(Some("event 7 is not what was written")));
        assert!(findings[0].level == Level::Problem && findings[0].text.contains("event 7"), "{findings:?}");
    }
}
