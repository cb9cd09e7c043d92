//! A closed loop: a rule on the stream sees the furnace's temperature and commands its valve, and the temperature follows.

use std::time::Duration;

use asset_stream::command::status::State;
use system_tests::cloud::Copier;
use system_tests::commanded::{Follower, Order, SENDER, Sender};
use system_tests::furnace::{FURNACE, Furnace};
use system_tests::kafka;
use system_tests::plant::Plant;
use system_tests::wait;

use crate::watch::{Origin, Watch};

/// Above it the valve is opened, in degrees.
const TOO_HOT: f64 = 80.0;
/// Below it the valve is closed.
const COOL: f64 = 65.0;
/// How long the last commands may take to their ends.
const MAX: Duration = Duration::from_secs(30);

/// The edge's rules for it: one sender, one valve.
pub(crate) fn rules(topic: &str) -> String {
    format!(
        "[commands]\ntopic = \"{topic}\"\n[[commands.allow]]\nsenders = [\"{SENDER}\"]\nassets = [\"{FURNACE}\"]\nmethods = [\"valve\"]\nsignature = \"optional\"\n"
    )
}

/// The furnace, the copier of commands, and the rule.
pub(crate) struct Cooling {
    // In the order in which they are to end.
    copier: Copier,
    furnace: Furnace,
    sender: Sender,
    given: Vec<String>,
    is_open: bool,
}

/// How the loop did.
pub(crate) struct Done {
    pub(crate) commands: usize,
    pub(crate) succeeded: usize,
    /// Writes of the valve beyond the first that a command asked for.
    pub(crate) executed_twice: usize,
}

impl Cooling {
    /// Lights the furnace and lets commands flow.
    pub(crate) fn start(plant: &Plant, commands_topic: &str) -> anyhow::Result<Self> {
        let furnace = Furnace::start(plant.folder())?;
        plant.edge.device_file("furnace", &furnace.device_file())?;
        let bootstrap = plant.kafka.bootstrap();
        kafka::create_topic(&bootstrap, commands_topic, 4, &[])?;
        let copier = Copier::start(plant.folder(), &bootstrap, plant.topic(), commands_topic)?;
        let sender = Sender::new(&bootstrap, plant.topic())?;
        Ok(Self { copier, furnace, sender, given: Vec::new(), is_open: false })
    }

    /// Looks at what NATS said last, and commands the valve if that is called for.
    pub(crate) fn look(&mut self, watch: &Watch) -> anyhow::Result<()> {
        let row = watch.rows.get(&(Origin::Device, FURNACE.to_owned(), "temperature".to_owned()));
        let Some(temperature) = row.and_then(|row| row.value.parse::<f64>().ok()) else { return Ok(()) };
        let open = match self.is_open {
            false if temperature > TOO_HOT => true,
            true if temperature < COOL => false,
            _ => return Ok(()),
        };
        let id = format!("cooling-{}-{}", wait::now(), self.given.len());
        let value = if open { "1" } else { "0" };
        self.sender.give(&Order::new(FURNACE, "valve", &*id, &[("value", value)]))?;
        self.given.push(id);
        self.is_open = open;
        Ok(())
    }

    /// How many commands the rule has given.
    pub(crate) fn given(&self) -> usize {
        self.given.len()
    }

    /// Waits for the ends of all commands, and counts.
    pub(crate) fn judge(&mut self, plant: &Plant) -> anyhow::Result<Done> {
        let mut follower = Follower::open(&plant.kafka.bootstrap(), plant.topic())?;
        let lives = follower.wait_ended(FURNACE, &self.given, MAX)?;
        lives.expect_sound()?;
        let end = |id: &&String| lives.end(FURNACE, id).is_some_and(|end| end.state == State::Succeeded);
        let succeeded = self.given.iter().filter(end).count();
        // Each command moves the valve the other way: the same twice is one that was executed twice.
        let executed_twice = self.furnace.written()?.windows(2).filter(|pair| pair[0] == pair[1]).count();
        Ok(Done { commands: self.given.len(), succeeded, executed_twice })
    }

    /// Ends the copier as an operator would.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.copier.stop()
    }
}
