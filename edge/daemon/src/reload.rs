//! Reading the config again: all of it takes effect, or nothing, and only what changed is touched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use edge_buffer::Health;
use service::config::Problem;
use service::notify;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::app::{self, Edge};
use crate::check::{self, Checked};
use crate::commands::Kafka;
use crate::config::Config;
use crate::gateways::Exchanged;
use crate::http::Page;
use crate::socket;
use crate::status::{Outcome, Reload};

/// How long reading the config may take. Signals wait meanwhile.
const READING: Duration = Duration::from_secs(20);

/// Devices that are named; beyond that they are counted.
const NAMED: usize = 8;

/// What the journal knows these messages by; its catalog explains them.
const REFUSED: &str = "5c670559a56c4810ae94687bba01f3fb";
const AT_WORK: &str = "fe9e65a9b37c423d952e68e2741c1814";

/// Who asks for a reload gets to know what came of it.
pub(crate) type Reloads = mpsc::Sender<oneshot::Sender<Reload>>;

/// The running edge has refused the config.
#[derive(Debug, thiserror::Error)]
#[error("{0}\nthe new config was refused, nothing was changed; the one before is still at work")]
pub(crate) struct Refused(String);

/// The running edge could not be asked: where it answers stands in the config.
#[derive(Debug, thiserror::Error)]
#[error("{0}\nthe running edge was not asked, and goes on with the config that it has")]
pub(crate) struct NotAsked(String);

/// `openfactory-edge reload`: asks the running edge and prints what it says.
pub(crate) fn ask(config: &Path) -> anyhow::Result<()> {
    use std::io::BufRead;
    // The socket itself may be what is wrong with the new config.
    let path = check::socket_of(config).map_err(|bad| NotAsked(bad.problems))?;
    let mut line = String::new();
    socket::ask(&path, &socket::Request::Reload {})?.read_line(&mut line).context("the edge took the question and does not answer")?;
    let reload: Reload = serde_json::from_str(&line).context("the edge's answer cannot be read; is it another version?")?;
    let told = reload.told.join("\n");
    match reload.outcome {
        Outcome::Refused => Err(Refused(told).into()),
        Outcome::Incomplete => anyhow::bail!("{told}\nthe new config is at work, but not all of it"),
        Outcome::Done => service::output::print(&(told + "\n")).context("what was done cannot be printed"),
    }
}

impl Edge {
    /// Reads the config again, and tells journal, status and systemd what came of it.
    pub(crate) async fn reload(&mut self) -> Reload {
        notify::reloading();
        let (outcome, told) = match self.read_again().await {
            Ok(done) => done,
            Err(problems) => (Outcome::Refused, problems),
        };
        for told in &told {
            match outcome {
                Outcome::Refused => error!(message_id = REFUSED, "the new config is refused, nothing was changed: {told}"),
                Outcome::Incomplete => error!(message_id = AT_WORK, "the new config is at work, but not all of it: {told}"),
                Outcome::Done => info!(message_id = AT_WORK, "the new config is at work: {told}"),
            }
        }
        let reload = Reload { at: asset_stream::Timestamp::now().to_string(), outcome, told };
        self.sources.parts().reload = Some(reload.clone());
        let sources = self.sources.clone();
        // The log looks at its files for it.
        tokio::task::spawn_blocking(move || notify::status(&sources.status().line())).await.ok();
        notify::ready();
        reload
    }

    /// What was done, or what is wrong with the new config.
    async fn read_again(&mut self) -> Result<(Outcome, Vec<String>), Vec<String>> {
        let file = self.file.clone();
        let reading = tokio::time::timeout(READING, tokio::task::spawn_blocking(move || check::load(&file)));
        let read = match reading.await {
            Ok(read) => read.map_err(|error| vec![error.to_string()])?,
            Err(_) => {
                return Err(vec![format!("the config's files could not be read within {} s: does a file system hang?", READING.as_secs())]);
            }
        };
        let Checked { config, devices, warnings } = read?;
        let fixed = self.config.fixed(&config);
        if !fixed.is_empty() {
            let told =
                |key: &str| Problem::of(&self.file, key, "changes with a restart only: systemctl restart openfactory-edge").to_string();
            return Err(fixed.into_iter().map(told).collect());
        }
        if let Health::Full(why) | Health::Failing(why) = self.log.health()
            && self.gateways.are_others(&devices)
        {
            return Err(vec![format!("the log takes no events, and so no device can begin or end: {why}")]);
        }
        self.gateways.prepare(&devices).map_err(|error| vec![error])?;
        let page = match config.edge.status_listen {
            address if address == self.config.edge.status_listen => None,
            _ => {
                let page = Page::open(&config.edge, self.sources.clone(), &self.background).await;
                Some(page.map_err(|error| vec![service::error::chain(&error)])?)
            }
        };
        let mut done = Vec::new();
        let mut way = config.kafka.is_some().then_some(Kafka::Same);
        if self.is_other_mirror(&config) || config.commands.topic != self.config.commands.topic {
            way = config.mirror().map(|mirror| Kafka::New(Box::new(mirror)));
        }
        if self.is_other_mirror(&config) {
            let mirror = config.mirror();
            if let Some(mirror) = &mirror {
                mirror.try_out(self.log.epoch()).map_err(|error| vec![service::error::chain(&error)])?;
            }
            // From here on nothing is refused any more: the old ends, the new begins.
            self.mirroring.exchange(mirror);
            done.push(match config.kafka {
                Some(_) => "Kafka: connecting anew".to_owned(),
                None => "no [kafka] section any more: the edge collects and keeps, nothing is sent".to_owned(),
            });
        }
        if let Some(page) = page {
            self.page = page;
            done.push(match config.edge.status_listen {
                Some(address) => format!("the status is served at {address}"),
                None => "the status is not served over HTTP any more".to_owned(),
            });
        }
        if config.edge.log_filter != self.config.edge.log_filter {
            // It was read with the config, so it is one.
            self.logging.set(config.edge.log_filter.as_deref()).ok();
            done.push("the log filter is another one".to_owned());
        }
        for warning in warnings {
            warn!("{warning}");
        }
        let outcome = match self.gateways.exchange(devices).await {
            Ok(exchanged) => {
                done.extend(sentence(exchanged));
                Outcome::Done
            }
            Err(error) => {
                // Before what was done: status lines show the first sentence.
                done.insert(0, format!("{error:#}; reload again when the log takes events"));
                Outcome::Incomplete
            }
        };
        self.sources.parts().devices = self.gateways.watched();
        if config.commands != self.config.commands {
            done.push("the rules for commands are others".to_owned());
        }
        let outcome = match self.commands.exchange(config.commands.clone(), way, self.gateways.work(config.commands.untrusted_clock)) {
            Ok(()) => outcome,
            Err(why) => {
                done.insert(0, why);
                Outcome::Incomplete
            }
        };
        self.fingerprint = app::fingerprint(&config);
        self.config = config;
        if done.is_empty() {
            done.push("nothing has changed".to_owned());
        }
        Ok((outcome, done))
    }

    fn is_other_mirror(&self, config: &Config) -> bool {
        let sections = |config: &Config| (config.kafka.clone(), config.mirror.clone());
        sections(&self.config) != sections(config) || self.fingerprint != app::fingerprint(config)
    }
}

/// What became of the devices; nothing to say where nothing changed.
fn sentence(Exchanged { added, changed, removed, untouched }: Exchanged) -> Option<String> {
    let parts = [("added", &added), ("changed", &changed), ("removed", &removed)];
    let parts: Vec<_> =
        parts.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("{what} {}", listed(names))).collect();
    (!parts.is_empty()).then(|| format!("devices: {}; {untouched} untouched", parts.join("; ")))
}

/// Names, as many as a line has place for.
fn listed(names: &[Arc<str>]) -> String {
    let (shown, more) = names.split_at(names.len().min(NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::sentence;
    use crate::gateways::Exchanged;
    use std::sync::Arc;

    #[test]
    fn what_became_of_the_devices_is_told_by_name_up_to_some() {
        assert_eq!(sentence(Exchanged { untouched: 3, ..Exchanged::default() }), None);
        let added = (1..=10).map(|number| Arc::from(format!("press-{number}"))).collect();
        let told = sentence(Exchanged { added, removed: vec!["oven".into()], untouched: 99, ..Exchanged::default() });
        let added = "added press-1, press-2, press-3, press-4, press-5, press-6, press-7, press-8 and 2 more";
        assert_eq!(told, Some(format!("devices: {added}; removed oven; 99 untouched")));
    }
}
