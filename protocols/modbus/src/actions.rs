//! What a Modbus device can be asked to do: have its `rw` variables written, and any variable read.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::Value;
use asset_stream::command::status::Reason;
use asset_stream::device_file::Access;
use asset_stream::document::nearest;
use gateway::{Actions, Ending, Pending, Refusal, Request, chain};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::bus::Asker;
use crate::config::{Config, Variable};
use crate::encode::Unfit;
use crate::errand::{Turn, Unwritten};
use crate::error::{Error, Exception};
use crate::told::read;
use crate::write::{One, SomeBits, Write};

/// How long an action waits for its turn on a connection that others use too, and a reading for its answer beyond the device's own timeouts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the device answers, and the way to ask it then. Clones tell of the same device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence(Arc<watch::Sender<Option<Asker>>>);

impl Presence {
    /// It answers.
    pub(crate) fn come(&self, asker: Asker) {
        self.0.send_replace(Some(asker));
    }

    /// It does not answer any more.
    pub(crate) fn go(&self) {
        self.0.send_replace(None);
    }

    fn asker(&self) -> Option<Asker> {
        self.0.borrow().clone()
    }
}

/// The actions of one device.
#[derive(Debug)]
pub(crate) struct ModbusActions {
    config: Arc<Config>,
    presence: Presence,
}

impl ModbusActions {
    pub(crate) fn new(config: Arc<Config>, presence: &Presence) -> Self {
        Self { config, presence: presence.clone() }
    }

    fn write(&self, request: &Request) -> Result<Write, Refusal> {
        let variable = self.writable(&request.method)?;
        let text = request.value()?;
        Write::new(variable, self.config.functions, text).map_err(|unfit| match unfit {
            Unfit::WrongType(problem) => refusal(Reason::WrongType, format!("{}: {problem}", Request::VALUE)),
            Unfit::OutOfRange(problem) => refusal(Reason::OutOfRange, format!("{}: {problem}", Request::VALUE)),
        })
    }

    fn writable(&self, id: &str) -> Result<&Variable, Refusal> {
        let unknown = |detail: String| Err(refusal(Reason::UnknownMethod, detail));
        match self.config.variables.iter().find(|variable| &*variable.id == id) {
            Some(variable) if variable.access == Access::ReadWrite => Ok(variable),
            Some(variable) if variable.span.table().is_writable() => {
                unknown(format!("{id} is only read: `access_level: rw` in the device file would let commands write it"))
            }
            Some(variable) => unknown(format!("{id} cannot be written: {}s can only be read", variable.span.table().words())),
            None => {
                let known = self.config.variables.iter().filter(|variable| variable.access == Access::ReadWrite);
                let hint = nearest(id, known.map(|variable| &*variable.id)).map(|near| format!("; is {near} meant?")).unwrap_or_default();
                unknown(format!("{id} is no variable of this device that commands may write (Modbus has no methods){hint}"))
            }
        }
    }

    async fn put(&self, request: &Request) -> Ending {
        let write = match self.write(request) {
            Ok(write) => write,
            Err(refusal) => return Ending::NotDone(refusal),
        };
        let Some(asker) = self.presence.asker() else { return Ending::NotDone(away("the device does not answer")) };
        let (config, turn) = (&self.config, Turn::default());
        let mut written = std::pin::pin!(asker.write(config.unit, write.clone(), turn.clone(), &config.timing));
        let written = tokio::select! {
            written = &mut written => written,
            () = sleep(PATIENCE) => match turn.take() {
                true => return Ending::NotDone(away(&format!("the connection was not free within {} s", PATIENCE.as_secs()))),
                // It is under way, and ends by the device's own timeouts.
                false => written.await,
            },
        };
        match written {
            Ok(()) => Ending::Done(None),
            Err(Unwritten::NotSent(error @ Error::Refused { exception, .. })) if !is_path(exception) => {
                Ending::NotDone(refusal(Reason::DeviceRefused, chain(&error)))
            }
            Err(Unwritten::NotSent(error)) => Ending::NotDone(away(&chain(&error))),
            Err(Unwritten::Sent(error)) => self.ending(&write, &error),
        }
    }

    /// What an error means of a write that has left.
    fn ending(&self, write: &Write, error: &Error) -> Ending {
        let words = chain(error);
        let Error::Refused { exception, .. } = error else { return Ending::Unknown(refusal(Reason::NoAnswer, words)) };
        match exception.0 {
            0x01 => Ending::NotDone(refusal(Reason::DeviceRefused, format!("{words}{}", self.other_function(write)))),
            0x02 | 0x03 | 0x06 => Ending::NotDone(refusal(Reason::DeviceRefused, words)),
            // The gateway in front of the device did not even pass it on.
            0x0A => Ending::NotDone(away(&words)),
            0x0B => Ending::Unknown(refusal(Reason::NoAnswer, words)),
            // 4: it failed while it did it; 5: it has begun, and says nothing when it is done. Others are the makers' own.
            _ => Ending::Unknown(refusal(Reason::DeviceRefused, words)),
        }
    }

    /// What to write into the file of a device that does not know the function.
    fn other_function(&self, write: &Write) -> String {
        let functions = self.config.functions;
        let Some(ready) = write.with(Some(&[])) else { return String::new() };
        let advice = match (ready.function(), functions.one, functions.bits) {
            (0x16, _, SomeBits::Mask) => "`requests: {write_bits: read_modify_write}` has the register read and written back",
            (5 | 6, One::Single, _) => "`requests: {write: multiple}` writes with function 15 or 16",
            (15 | 16, One::Multiple, _) if ready.span.count() == 1 => "`requests: {write: single}` writes with function 5 or 6",
            _ => return format!("; the device does not know function {}", ready.function()),
        };
        format!("; the device does not know function {}: {advice}", ready.function())
    }

    async fn read_now(&self, id: &str) -> Result<Value, String> {
        let find = |variable: &&Variable| &*variable.id == id;
        let variable = self.config.variables.iter().find(find).ok_or_else(|| format!("{id} is no variable of this device"))?;
        let asker = self.presence.asker().ok_or("the device does not answer")?;
        let mut attempts = 0..self.config.timing.retries;
        let answer = loop {
            match asker.read(self.config.unit, variable.span, &self.config.timing).await {
                Err(Error::Timeout { .. } | Error::Garbled { .. }) if attempts.next().is_some() => {}
                answer => break answer.map_err(|error| chain(&error))?,
            }
        };
        let value = read(&variable.decoder, &answer.payload, variable.span, variable.span);
        value.map(|(value, _)| value).ok_or_else(|| "the answer is too short".to_owned())
    }
}

impl Actions for ModbusActions {
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        self.write(request).map(drop)
    }

    fn ready(&self) -> Pending<'_, ()> {
        let mut present = self.presence.0.subscribe();
        Box::pin(async move {
            // The sender lives as long as this.
            drop(present.wait_for(Option::is_some).await);
        })
    }

    fn execute<'a>(&'a self, request: &'a Request) -> Pending<'a, Ending> {
        Box::pin(self.put(request))
    }

    fn read<'a>(&'a self, variable: &'a str) -> Pending<'a, Result<Value, String>> {
        let timing = &self.config.timing;
        let limit = PATIENCE + (timing.timeout + timing.settle_time) * (timing.retries + 1);
        Box::pin(async move {
            let late = |_| Err(format!("{variable} was not read within {} s", limit.as_secs()));
            timeout(limit, self.read_now(variable)).await.unwrap_or_else(late)
        })
    }
}

fn refusal(reason: Reason, detail: String) -> Refusal {
    Refusal { reason, detail }
}

fn away(why: &str) -> Refusal {
    refusal(Reason::DeviceAway, format!("nothing was written: {why}"))
}

/// What a gateway says of a device behind it.
fn is_path(exception: Exception) -> bool {
    matches!(exception.0, 0x0A | 0x0B)
}
