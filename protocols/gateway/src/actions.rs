//! What a device can be asked to do.

use std::future::Future;
use std::pin::Pin;

use asset_stream::Value;
use asset_stream::command::status::Reason;
use serde_json::Value as Json;

/// Something that is awaited.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a command asks a device for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The safe name of a method, or the `ID` of a variable that commands may write; a variable takes the one argument `value`.
    pub method: String,
    /// Names and values, each once, as the sender wrote them.
    pub arguments: Vec<(String, String)>,
}

impl Request {
    /// The one argument that a variable takes.
    pub const VALUE: &str = "value";

    /// What is to be written into a variable.
    ///
    /// # Errors
    /// [`Reason::UnknownArgument`], [`Reason::MissingArgument`].
    pub fn value(&self) -> Result<&str, Refusal> {
        if let Some((name, _)) = self.arguments.iter().find(|(name, _)| name != Self::VALUE) {
            let detail = format!("{name}: a variable takes the one argument `{}`", Self::VALUE);
            return Err(Refusal { reason: Reason::UnknownArgument, detail });
        }
        let value = self.arguments.first().map(|(_, value)| value.as_str());
        value.ok_or_else(|| Refusal {
            reason: Reason::MissingArgument,
            detail: format!("`{}` is missing: what is to be written into {}", Self::VALUE, self.method),
        })
    }
}

/// The device is not asked, or has not done it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people, with the device's own code where it has one.
    pub detail: String,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The device says that it has done it, and gave this back.
    Done(Option<Json>),
    /// It has surely not done it: it was not asked, or it said no.
    NotDone(Refusal),
    /// Nobody can tell: the answer did not come, or says nothing.
    Unknown(Refusal),
}

/// The way to ask a device to do something; made with its [`crate::Gateway`], and usable as long as that runs.
///
/// A request is put to the device at most once: no retry below, on no error and through no reconnect.
pub trait Actions: Send + Sync + 'static {
    /// Whether the device could be asked for this, as far as is known now. Asks nobody; a device that was not met yet may turn out later to
    /// have no such method.
    ///
    /// # Errors
    /// Why it can never work: [`Reason::UnknownMethod`], [`Reason::UnknownArgument`], [`Reason::MissingArgument`], [`Reason::WrongType`],
    /// [`Reason::OutOfRange`].
    fn check(&self, request: &Request) -> Result<(), Refusal>;

    /// Resolves when the device is connected and what it offers is known. Cancel safe.
    fn ready(&self) -> Pending<'_, ()>;

    /// Puts the request to the device, once. Not cancel safe in this sense: a cancelled call may have been put to it. Ends within the device's time limit.
    fn execute<'a>(&'a self, request: &'a Request) -> Pending<'a, Ending>;

    /// Reads the present value of a variable of the device file from the device. Ends within the device's time limit. Cancel safe.
    ///
    /// # Errors
    /// Why there is none, in plain words.
    fn read<'a>(&'a self, variable: &'a str) -> Pending<'a, Result<Value, String>>;
}
