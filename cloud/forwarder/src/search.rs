//! Does the stream hold an event that its edge wrote late, with later events of its subject behind it?
//!
//! The highest id so far never falls along a subject: what comes in order raises it, what comes late carries it in `of-newest`. So the place
//! where an event raised it is found by halving, some twenty questions in a stream of millions. Only an event that came late to the stream
//! itself, and has others behind it, is not found: it raised nothing.

use std::cmp::Ordering;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind, Stream};
use service::error::chain;

use crate::stream::{Last, NEWEST};

/// The event with this id, if the stream is found to hold it, else the last message on its subject.
pub(crate) async fn itself_or_last(context: Context, stream: String, subject: String, id: String) -> Result<Option<Last>, String> {
    let stream = context.get_stream_no_info(&stream).await.map_err(|error| chain(&error))?;
    let last = match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => message,
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => return Ok(None),
        Err(error) => return Err(chain(&error)),
    };
    let Some(last_id) = header(&last, NATS_MESSAGE_ID) else { return Ok(None) };
    let is_there = last_id == id || stands(&stream, &subject, &id, last.sequence).await?;
    Ok(Some(if is_there { Last::new(id, None) } else { Last::new(last_id, header(&last, NEWEST)) }))
}

/// Whether an event raised the highest id of its subject, at or before the sequence `high` of the stream.
async fn stands(stream: &Stream<()>, subject: &str, id: &str, mut high: u64) -> Result<bool, String> {
    let mut low = 1;
    // What is older than all that is kept is common, and known at once.
    let mut middle = low;
    while low <= high {
        let Some(message) = next(stream, subject, middle).await? else { return Ok(false) };
        let found = header(&message, NATS_MESSAGE_ID).unwrap_or_default();
        if found == id {
            return Ok(true);
        }
        match order(&header(&message, NEWEST).unwrap_or(found), id) {
            Some(Ordering::Less) => low = message.sequence + 1,
            Some(Ordering::Equal | Ordering::Greater) => high = middle - 1,
            None => return Ok(false),
        }
        middle = low + high.saturating_sub(low) / 2;
    }
    Ok(false)
}

/// The first message on a subject at or behind a sequence of the stream.
async fn next(stream: &Stream<()>, subject: &str, sequence: u64) -> Result<Option<StreamMessage>, String> {
    match stream.get_first_raw_message_by_subject(subject, sequence).await {
        Ok(message) => Ok(Some(message)),
        // Removed meanwhile.
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(chain(&error)),
    }
}

fn header(message: &StreamMessage, name: async_nats::HeaderName) -> Option<String> {
    message.headers.get(name).map(|value| value.as_str().to_owned())
}

/// How two ids `<edge>:<epoch>:<n>` follow each other; `None` if they are not of one edge.
fn order(one: &str, other: &str) -> Option<Ordering> {
    let split = |id: &str| {
        let (line, n) = id.rsplit_once(':')?;
        let (edge, epoch) = line.rsplit_once(':')?;
        Some((edge.to_owned(), epoch.parse::<u64>().ok()?, n.parse::<u64>().ok()?))
    };
    let ((one, epoch, n), (other, other_epoch, other_n)) = (split(one)?, split(other)?);
    (one == other).then(|| (epoch, n).cmp(&(other_epoch, other_n)))
}

#[cfg(test)]
mod tests {
    use super::{Ordering, order};

    #[test]
    fn ids_of_one_edge_follow_each_other_by_epoch_and_number() {
        assert_eq!(order("edge:7:10", "edge:7:9"), Some(Ordering::Greater));
        assert_eq!(order("edge:7:10", "edge:8:1"), Some(Ordering::Less));
        assert_eq!(order("edge:7:1", "edge:7:1"), Some(Ordering::Equal));
        for other in ["other:7:1", "topic:0:x", "edge", ""] {
            assert_eq!(order("edge:7:1", other), None, "{other}");
        }
    }
}
