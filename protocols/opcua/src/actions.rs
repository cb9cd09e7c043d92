//! What an OPC UA device can be asked to do: call the methods that it offers, write its `rw` variables, read any.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::command::status::Reason;
use asset_stream::device_file::Access;
use asset_stream::document::nearest;
use asset_stream::{Quality, Value};
use gateway::{Actions, Ending, Pending, Refusal, Request};
use opcua::client::UARequest;
use opcua::client::services::Read;
use opcua::types::{NodeId, ReadValueId, TimestampsToReturn, Variant};

use crate::arguments::{Declared, Unfit};
use crate::config::Config;
use crate::convert::{convert, status_text};
use crate::offer::{Desk, Known, Offered};
use crate::request;

/// The actions of one device.
#[derive(Debug)]
pub(crate) struct OpcuaActions {
    config: Arc<Config>,
    desk: Desk,
}

/// What a request comes to on the server.
enum Action {
    Call { methods: Arc<Vec<Offered>>, at: usize, inputs: Vec<Variant> },
    Write { node: NodeId, value: Variant },
}

impl OpcuaActions {
    pub(crate) fn new(config: Arc<Config>, desk: &Desk) -> Self {
        Self { config, desk: desk.clone() }
    }

    fn within(&self) -> Duration {
        self.config.session.action_timeout
    }

    /// What the request comes to; `None`: that cannot be said yet.
    fn action(&self, known: &Known, request: &Request) -> Result<Option<Action>, Refusal> {
        let name = request.method.as_str();
        if let Some(variable) = self.config.variables.iter().find(|variable| variable.name == name) {
            return match variable.access {
                Access::ReadWrite => self.write(known, request),
                Access::ReadOnly => {
                    Err(unknown(format!("{name} is only read: `access_level: rw` in the device file would let commands write it")))
                }
            };
        }
        let is_other = self.config.constants.iter().any(|c| c.name == name) || self.config.events.iter().any(|e| e.name == name);
        if is_other {
            return Err(unknown(format!("{name} is only read: among `variables`, with `access_level: rw`, commands could write it")));
        }
        let methods = known.offer.as_ref().and_then(|offer| offer.methods.clone());
        let Some(methods) = methods else {
            // Without a configured node there will never be a method.
            return if self.config.methods.is_empty() { Err(self.nothing(name, &[])) } else { Ok(None) };
        };
        let at = methods.iter().position(|offered| offered.method.name == name).ok_or_else(|| self.nothing(name, &methods))?;
        let inputs = methods.get(at).map(|offered| inputs(offered, request)).transpose()?.unwrap_or_default();
        Ok(Some(Action::Call { methods, at, inputs }))
    }

    /// There is nothing of this name.
    fn nothing(&self, name: &str, methods: &[Offered]) -> Refusal {
        let variables = self.config.variables.iter().filter(|variable| variable.access == Access::ReadWrite).map(|v| v.name.as_str());
        let near = nearest(name, variables.chain(methods.iter().map(|offered| offered.method.name.as_str())));
        let hint = near.map(|near| format!("; is {near} meant?")).unwrap_or_default();
        unknown(format!("{name} is neither a method of this device nor a variable that commands may write{hint}"))
    }

    fn write(&self, known: &Known, request: &Request) -> Result<Option<Action>, Refusal> {
        let text = request.value()?;
        let Some(place) = known.offer.as_ref().and_then(|offer| offer.places.get(&request.method)) else { return Ok(None) };
        let Some(writing) = &place.writing else { return Ok(None) };
        if let Some(why) = writing.forbidden {
            return Err(unknown(format!("{} ({}) cannot be written: {why}", request.method, place.node)));
        }
        let value = given(Request::VALUE, &writing.declared, text)?;
        Ok(Some(Action::Write { node: place.node.clone(), value }))
    }

    async fn put(&self, request: &Request) -> Ending {
        let known = self.desk.now();
        let action = match self.action(&known, request) {
            Ok(action) => action,
            Err(refusal) => return Ending::NotDone(refusal),
        };
        let Some(open) = known.open() else {
            return Ending::NotDone(refusal(Reason::DeviceAway, "the server is not connected: it was not asked".to_owned()));
        };
        match action {
            None => Ending::NotDone(unknown(format!("{} was not found on the server: see its status", request.method))),
            Some(Action::Write { node, value }) => request::write(&open.session, self.within(), node, value).await,
            Some(Action::Call { methods, at, inputs }) => match methods.get(at) {
                Some(offered) => request::call(&open.session, self.within(), offered, inputs).await,
                None => Ending::NotDone(self.nothing(&request.method, &methods)),
            },
        }
    }

    async fn read_now(&self, name: &str) -> Result<Value, String> {
        let known = self.desk.now();
        let open = known.open().ok_or("the server is not connected")?;
        let place = known.offer.as_ref().and_then(|offer| offer.places.get(name));
        let place = place.ok_or_else(|| format!("{name} is no variable of this device, or the server does not have it"))?;
        // 0: a value that the server has kept from before is not enough.
        let read = Read::new(&open.session).node(ReadValueId::from(place.node.clone())).max_age(0.0);
        let read = read.timestamps_to_return(TimestampsToReturn::Both).timeout(self.within());
        let answer = read.send(open.session.channel()).await;
        let values = answer.map_err(|error| format!("{name} was not read: {}", status_text(error.status())))?.results;
        let data =
            values.and_then(|values| values.into_iter().next()).ok_or_else(|| format!("{name} was not read: the answer is empty"))?;
        let read = convert(&data, &place.meaning);
        match read.quality {
            Quality::Bad(status) => Err(format!("{name} has no value: {status}")),
            Quality::Good | Quality::Uncertain(_) => Ok(read.value),
        }
    }
}

impl Actions for OpcuaActions {
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        self.action(&self.desk.now(), request).map(drop)
    }

    fn ready(&self) -> Pending<'_, ()> {
        Box::pin(self.desk.ready())
    }

    fn execute<'a>(&'a self, request: &'a Request) -> Pending<'a, Ending> {
        Box::pin(self.put(request))
    }

    fn read<'a>(&'a self, variable: &'a str) -> Pending<'a, Result<Value, String>> {
        Box::pin(self.read_now(variable))
    }
}

/// A method's inputs, in its order.
fn inputs(offered: &Offered, request: &Request) -> Result<Vec<Variant>, Refusal> {
    let declared = &offered.method.inputs;
    let names = || declared.iter().map(|input| input.name.as_str());
    if let Some((name, _)) = request.arguments.iter().find(|(name, _)| names().all(|known| known != name)) {
        let hint = nearest(name, names()).map(|near| format!("; is {near} meant?")).unwrap_or_default();
        let list = names().collect::<Vec<_>>().join(", ");
        let takes = if list.is_empty() { "takes no arguments".to_owned() } else { format!("takes {list}") };
        return Err(refusal(Reason::UnknownArgument, format!("{name}: {} {takes}{hint}", request.method)));
    }
    let input = |(input, declared): (_, &Declared)| {
        let name: &str = input;
        let text = request.arguments.iter().find(|(given, _)| given == name).map(|(_, value)| value);
        let text = text.ok_or_else(|| refusal(Reason::MissingArgument, format!("{name} is missing: {} needs it", request.method)))?;
        given(name, declared, text)
    };
    names().zip(&offered.inputs).map(input).collect()
}

fn given(name: &str, declared: &Declared, text: &str) -> Result<Variant, Refusal> {
    declared.variant(text).map_err(|unfit| match unfit {
        Unfit::WrongType(problem) => refusal(Reason::WrongType, format!("{name}: {problem}")),
        Unfit::OutOfRange(problem) => refusal(Reason::OutOfRange, format!("{name}: {problem}")),
    })
}

fn refusal(reason: Reason, detail: String) -> Refusal {
    Refusal { reason, detail }
}

fn unknown(detail: String) -> Refusal {
    refusal(Reason::UnknownMethod, detail)
}
