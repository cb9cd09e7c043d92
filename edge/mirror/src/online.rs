//! Whether the brokers answer and have what is needed, before anything depends on it.

use std::time::{Duration, Instant};

use crate::class::{Class, Failure};
use crate::topic_client::TopicClient;
use crate::{Config, CreateTopics};

/// Why the mirror could not work with these brokers.
#[derive(Clone, Debug)]
pub enum Unfit {
    /// There is no answer.
    Silent(String),
    /// They answer, and have no topic.
    NoTopic(String),
}

impl Config {
    /// Asks the brokers for the mirror's topics, and for that of `commands` where there is one: their names, and how many partitions they have; 0
    /// for one that the mirror will make. Blocks, up to about `within`.
    ///
    /// # Errors
    /// Why there is no answer, or no topic, in words.
    pub fn ask_topics(&self, commands: Option<&str>, within: Duration) -> Result<Vec<(String, usize)>, Unfit> {
        let until = Instant::now() + within;
        let client = TopicClient::new(self, "check", TopicClient::short_limit(self))
            .map_err(|error| Unfit::Silent(service::error::chain(&error)))?;
        let mut asked = Vec::with_capacity(3);
        for topic in [&self.assets_topic, &self.edges_topic] {
            let missing = match self.create_topics {
                CreateTopics::Create { .. } => Ok(0),
                CreateTopics::Never => Err(Unfit::NoTopic(self.missing(topic))),
            };
            asked.push((topic.clone(), ask_topic(&client, topic, until, missing)?));
        }
        if let Some(topic) = commands {
            let missing = Err(Unfit::NoTopic(self.missing_commands(topic)));
            asked.push((topic.to_owned(), ask_topic(&client, topic, until, missing)?));
        }
        Ok(asked)
    }
}

/// How many partitions it has; `missing` if there is no such topic.
fn ask_topic(client: &TopicClient, topic: &str, until: Instant, missing: Result<usize, Unfit>) -> Result<usize, Unfit> {
    let mut why: Option<Failure> = None;
    loop {
        match client.partitions(topic) {
            Ok(partitions) => return Ok(partitions.len()),
            // A connection takes a moment; what the brokers say themselves does not change.
            Err(failure) if failure.class == Class::Topic => return missing,
            Err(failure) if failure.has_reason || why.is_none() => why = Some(failure),
            Err(_) => {}
        }
        if let Some(why) = why.take_if(|_| Instant::now() >= until) {
            return Err(Unfit::Silent(why.text));
        }
    }
}
