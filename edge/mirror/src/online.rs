//! Whether the brokers answer, before anything depends on it.

use std::time::{Duration, Instant};

use crate::Config;
use crate::class::{Class, Failure};
use crate::topic_client::TopicClient;

impl Config {
    /// Asks the brokers for the asset topic; gives the number of its partitions. Blocks, up to about `within`.
    ///
    /// # Errors
    /// Why there is no answer, or no topic, in words.
    pub fn ask_topic(&self, within: Duration) -> Result<usize, String> {
        let until = Instant::now() + within;
        let client = TopicClient::new(self, "check", TopicClient::short_limit(self)).map_err(|error| service::error::chain(&error))?;
        let mut why: Option<Failure> = None;
        loop {
            match client.partitions(&self.assets_topic) {
                Ok(partitions) => return Ok(partitions.len()),
                // A connection takes a moment; what the brokers say themselves does not change.
                Err(failure) if failure.class == Class::Topic => return Err(failure.text),
                Err(failure) if failure.has_reason || why.is_none() => why = Some(failure),
                Err(_) => {}
            }
            if let Some(why) = why.take_if(|_| Instant::now() >= until) {
                return Err(why.text);
            }
        }
    }
}
