//! `openfactory-edge support-bundle`: what somebody needs who helps from afar, in one file, without secrets and without values of machines.

mod redact;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use asset_stream::Timestamp;
use asset_stream::device_file::files_in;
use asset_stream::document;
use redact::Secrets;

use crate::cli::SupportBundleArgs;
use crate::config::Config;

/// How long a command may take.
const LONGEST: Duration = Duration::from_secs(60);

/// zstd's own middle: it is text.
const LEVEL: i32 = 3;

/// Collects and writes. What cannot be had is named in its place: a bundle of a broken box is the one that is needed.
pub(crate) fn run(config: &Path, args: &SupportBundleArgs) -> anyhow::Result<()> {
    let made = Timestamp::now().to_string().replace(':', "");
    let output = args.output.clone().unwrap_or_else(|| format!("openfactory-support-{}-{made}.tar.zst", service::host::name()).into());
    let partial = PathBuf::from(format!("{}.tmp", output.display()));
    // The journal is not for everybody on the box.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .with_context(|| format!("{} cannot be made; name another place by --output", partial.display()))?;
    let written = write(file, config, args).and_then(|()| std::fs::rename(&partial, &output).context("it cannot get its name"));
    if written.is_err() {
        // What is left of it helps nobody; the error that matters is the one above.
        std::fs::remove_file(&partial).ok();
    }
    written.with_context(|| format!("{} cannot be written", output.display()))?;
    let told =
        format!("{}: secrets are left out; look into it before you give it away: zstd -dc FILE | tar -xO | less\n", output.display());
    service::output::print(&told).context("its name cannot be printed")
}

fn write(file: File, config: &Path, args: &SupportBundleArgs) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(file, LEVEL)?);
    let folder = config.parent().unwrap_or(Path::new("."));
    let mut secrets = Secrets::default();
    // First, as what is a secret in them is none to be told by a command either.
    for path in config_files(config) {
        let text =
            document::read(&path).map_or_else(|error| format!("cannot be read: {error}\n"), |bytes| secrets.hide(&path, &bytes, folder));
        // With their folder: the schema and a device file may have one name.
        let place: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy().trim_matches('/').to_owned()).collect();
        add(&mut tar, &format!("config/{}", place.into_iter().rev().collect::<Vec<_>>().join("/")), text.as_bytes())?;
    }
    for (name, words) in commands(config, &args.since)? {
        eprintln!("{}", words.join(" "));
        // Drop-ins of the unit may set variables with secrets.
        add(&mut tar, name, secrets.hide_in(&output_of(&words)).as_bytes())?;
    }
    tar.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

/// What is asked, and the file that holds the answer.
fn commands(config: &Path, since: &str) -> anyhow::Result<Vec<(&'static str, Vec<String>)>> {
    let (own, config) = (std::env::current_exe()?.to_string_lossy().into_owned(), config.to_string_lossy().into_owned());
    let ours = |words: &str| words.split(' ').map(str::to_owned).chain(["--config".into(), config.clone()]).collect::<Vec<_>>();
    let own = |words| [vec![own.clone()], ours(words)].concat();
    let theirs = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut journal = theirs("journalctl --no-pager -o short-iso -n 50000 -u openfactory-edge --since");
    journal.push(since.to_owned());
    Ok(vec![
        ("version", own("--version")),
        ("status.json", own("status --json")),
        ("status", own("status")),
        ("check-config", own("check-config")),
        ("log-inspect", own("log inspect")),
        ("journal", journal),
        ("kernel", theirs("journalctl --no-pager -k -n 2000 -o short-iso")),
        ("unit", theirs("systemctl show openfactory-edge")),
        ("unit-files", theirs("systemctl cat openfactory-edge")),
        ("system", theirs("uname -a")),
        ("release", theirs("cat /etc/os-release")),
        ("clock", theirs("timedatectl")),
        ("disks", theirs("lsblk -o NAME,TYPE,SIZE,FSTYPE,MOUNTPOINTS,MODEL,ROTA")),
        ("space", theirs("df -h")),
        ("mounts", theirs("findmnt")),
        ("memory", theirs("cat /proc/meminfo")),
        ("network", theirs("cat /proc/net/dev /proc/net/route /etc/resolv.conf")),
    ])
}

/// What a command says, and how it ended. A disk or a mount that hangs, which may be what is wrong with the box, must not hold up the rest.
fn output_of(words: &[String]) -> String {
    let (said, heard) = std::sync::mpsc::channel();
    let mut command = Command::new("timeout");
    command.arg(format!("{}s", LONGEST.as_secs())).args(words).stdin(Stdio::null());
    // Left alone if even the kernel cannot end it; this process does not wait for its threads.
    std::thread::spawn(move || said.send(command.output()));
    let Ok(ran) = heard.recv_timeout(LONGEST + Duration::from_secs(5)) else {
        return format!("{} did not end within {} s\n", words.join(" "), LONGEST.as_secs());
    };
    match ran {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{}{}\n[{}: {}]\n", text(&output.stdout), text(&output.stderr), words.join(" "), output.status)
        }
        Err(error) => format!("{} cannot be run: {error}\n", words[0]),
    }
}

/// The config and all device files, as far as they are found.
fn config_files(config: &Path) -> Vec<PathBuf> {
    let read = Config::read(config).map(|config| (config.edge.devices, config.edge.uns_schema));
    let (devices, schema) = read.unwrap_or_else(|_| (config.with_file_name("devices"), None));
    [config.to_owned()].into_iter().chain(schema).chain(files_in(&devices).unwrap_or_default()).collect()
}

fn add<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(Timestamp::now().millis().unsigned_abs() / 1000);
    tar.append_data(&mut header, format!("openfactory-support/{name}"), bytes)?;
    Ok(())
}
