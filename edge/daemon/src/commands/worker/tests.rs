use super::{Job, Stage, Step, Work, Worker};
use crate::commands::config::UntrustedClock;
use crate::commands::index::Name;
use crate::commands::memory::Chain;
use crate::commands::teller::Teller;
use crate::commands::terms::Terms;
use asset_stream::command::status::{Reason, State, Status};
use asset_stream::device_file::DeviceFiles;
use asset_stream::document::{Environment, Problems};
use asset_stream::{Event, Timestamp, Value};
use edge_buffer::Config;
use gateway::{Actions, Ending, Outcome, Pending, Refusal, Request, SampleReceiver};
use service::fail_point::Fuse;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A device in memory: counts what it is asked, and answers as it was told.
#[derive(Default)]
struct Device {
    asked: Mutex<Vec<Request>>,
    endings: Mutex<VecDeque<Ending>>,
    values: Mutex<HashMap<String, Value>>,
    /// What executing sets.
    effect: Mutex<Option<(String, Value)>>,
    is_away: Mutex<bool>,
    back: Notify,
}

impl Actions for Device {
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let refusal = || Refusal { reason: Reason::UnknownMethod, detail: "no such method".into() };
        if request.method == "None" { Err(refusal()) } else { Ok(()) }
    }

    fn ready(&self) -> Pending<'_, ()> {
        Box::pin(async {
            loop {
                let back = self.back.notified();
                if !*self.is_away.lock().expect("unharmed") {
                    return;
                }
                back.await;
            }
        })
    }

    fn execute<'a>(&'a self, request: &'a Request) -> Pending<'a, Ending> {
        Box::pin(async {
            self.asked.lock().expect("unharmed").push(request.clone());
            if let Some((name, value)) = self.effect.lock().expect("unharmed").clone() {
                self.values.lock().expect("unharmed").insert(name, value);
            }
            self.endings.lock().expect("unharmed").pop_front().unwrap_or(Ending::Done(None))
        })
    }

    fn read<'a>(&'a self, variable: &'a str) -> Pending<'a, Result<Value, String>> {
        Box::pin(async { self.values.lock().expect("unharmed").get(variable).cloned().ok_or_else(|| "no value".to_owned()) })
    }
}

fn terms(text: &str) -> Terms {
    let text = format!("devices:\n  d:\n    uuid: D\n    commands: {text}\n    connector: {{type: x}}\n");
    let files = DeviceFiles::parse([("d.yaml".into(), text.into_bytes())], Environment::empty());
    let problems = Problems::new();
    let terms = files.devices(&problems).into_iter().next().map(|device| Terms::read(device.commands)).unwrap_or_default();
    assert_eq!(problems.into_vec(), []);
    terms
}

fn name(id: &str) -> Name {
    Name { asset: "A".into(), sender: "S".into(), id: id.into() }
}

/// A worker whose log is played by the test.
struct Bench {
    _folder: tempfile::TempDir,
    device: Arc<Device>,
    jobs: mpsc::Sender<Job>,
    steps: mpsc::UnboundedReceiver<Step>,
    samples: SampleReceiver,
    leave: CancellationToken,
}

fn bench(terms: Terms, device: Device) -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let log = edge_buffer::open(Config { dir: folder.path().join("log"), ..Config::default() }).expect("a log").log;
    let (sender, samples) = gateway::channel(1 << 20);
    let stop = CancellationToken::new();
    let teller = Arc::new(Teller::new(sender, log, Chain::default(), stop.clone()));
    let device = Arc::new(device);
    let (_, work) = watch::channel(Work { actions: device.clone(), terms: Arc::new(terms), untrusted_clock: UntrustedClock::Refuse });
    let (jobs, taken) = mpsc::channel(8);
    let (steps, heard) = mpsc::unbounded_channel();
    let leave = CancellationToken::new();
    let fuse = Arc::new(Fuse::from_environment("commands", &[]));
    let worker = Worker { work, jobs: taken, teller, steps, stop, leave: leave.clone(), fuse };
    tokio::spawn(worker.run());
    Bench { _folder: folder, device, jobs, steps: heard, samples, leave }
}

impl Bench {
    async fn give(&self, id: &str, method: &str, deadline: i64) {
        let (accepted, waits) = tokio::sync::oneshot::channel();
        accepted.send(()).expect("somebody waits");
        self.job(id, method, deadline, Stage::New(waits)).await;
    }

    async fn job(&self, id: &str, method: &str, deadline: i64, stage: Stage) {
        let request = Request { method: method.into(), arguments: vec![("value".into(), "5".into())] };
        self.jobs.send(Job { name: name(id), request, deadline, stage }).await.expect("at work");
    }

    /// The next step as it stands in the log, which takes it.
    async fn told(&mut self) -> (State, Option<Reason>) {
        let batch = self.samples.recv().await.expect("a step");
        let asked = self.asked();
        tokio::task::yield_now().await;
        let mut json = Vec::new();
        batch.samples[0].encode(&mut json);
        let event = Event::decode(&json).expect("an event");
        let (_, status) = Status::from_event(&event).expect("a status");
        let status = status.expect("valid");
        if status.state == State::Executing {
            assert_eq!(asked, self.asked(), "the device was asked before that was on disk");
        }
        batch.finish(Outcome::Durable);
        (status.state, status.reason)
    }

    async fn states(&mut self, count: usize) -> Vec<State> {
        let mut states = Vec::new();
        for _ in 0..count {
            states.push(self.told().await.0);
        }
        states
    }

    fn asked(&self) -> usize {
        self.device.asked.lock().expect("unharmed").len()
    }
}

fn later() -> i64 {
    Timestamp::now().millis() + 60_000
}

#[tokio::test]
async fn a_command_is_executed_and_ended_and_the_device_is_asked_once() {
    let mut bench = bench(Terms::default(), Device::default());
    bench.give("1", "Move", later()).await;
    assert_eq!(bench.states(2).await, [State::Executing, State::Succeeded]);
    assert_eq!(bench.asked(), 1);
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.push(bench.steps.recv().await.expect("a step").state);
    }
    assert_eq!(heard, [State::Executing, State::Succeeded]);
}

#[tokio::test]
async fn each_answer_of_a_device_has_its_end() {
    let refusal = |reason| Refusal { reason, detail: String::new() };
    for (ending, end) in [
        (Ending::NotDone(refusal(Reason::DeviceRefused)), (State::Failed, Some(Reason::DeviceRefused))),
        (Ending::Unknown(refusal(Reason::NoAnswer)), (State::Unknown, Some(Reason::NoAnswer))),
        (Ending::Done(Some(serde_json::json!(7))), (State::Succeeded, None)),
    ] {
        let mut bench = bench(Terms::default(), Device { endings: Mutex::new([ending.clone()].into()), ..Device::default() });
        bench.give("1", "Move", later()).await;
        bench.states(1).await;
        assert_eq!(bench.told().await, end, "{ending:?}");
        assert_eq!(bench.asked(), 1);
    }
}

#[tokio::test]
async fn what_is_too_late_while_the_device_is_away_expires_and_is_not_executed() {
    let mut bench = bench(Terms::default(), Device { is_away: Mutex::new(true), ..Device::default() });
    bench.give("1", "Move", Timestamp::now().millis() + 50).await;
    assert_eq!(bench.told().await, (State::Expired, Some(Reason::WaitedTooLong)));
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn a_device_that_leaves_the_config_ends_what_waits_for_it() {
    let mut bench = bench(Terms::default(), Device { is_away: Mutex::new(true), ..Device::default() });
    bench.give("1", "Move", later()).await;
    bench.leave.cancel();
    assert_eq!(bench.told().await, (State::Failed, Some(Reason::UnknownAsset)));
}

#[tokio::test]
async fn a_precondition_is_read_just_before_the_action_and_stops_it() {
    let interlock = "{Move: {precondition: {variable: door, equals: closed}}}";
    let device = Device { values: Mutex::new([("door".to_owned(), "open".into())].into()), ..Device::default() };
    let mut bench = bench(terms(interlock), device);
    bench.give("1", "Move", later()).await;
    assert_eq!(bench.told().await, (State::Failed, Some(Reason::Precondition)));
    bench.device.values.lock().expect("unharmed").insert("door".into(), "closed".into());
    bench.give("2", "Move", later()).await;
    assert_eq!(bench.states(2).await, [State::Executing, State::Succeeded]);
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn a_value_that_proves_the_action_decides_between_done_and_unknown() {
    let confirm = "{Move: {confirm: {variable: valve, equals_argument: value, within: 0}}}";
    let lost = || Ending::Unknown(Refusal { reason: Reason::NoAnswer, detail: "no answer".into() });
    for (ending, effect, end) in [
        (Ending::Done(None), Some(5), (State::Succeeded, None)),
        (Ending::Done(None), Some(4), (State::Unknown, Some(Reason::NotConfirmed))),
        (lost(), Some(5), (State::Succeeded, Some(Reason::NoAnswer))),
        (lost(), None, (State::Unknown, Some(Reason::NoAnswer))),
    ] {
        let effect = effect.map(|value| ("valve".to_owned(), Value::Int(value)));
        let device = Device { endings: Mutex::new([ending.clone()].into()), effect: Mutex::new(effect.clone()), ..Device::default() };
        let mut bench = bench(terms(confirm), device);
        bench.give("1", "Move", later()).await;
        bench.states(1).await;
        assert_eq!(bench.told().await, end, "{ending:?} with {effect:?}");
    }
}

#[tokio::test]
async fn what_a_crash_hid_is_read_back_or_unknown_and_never_asked_for_again() {
    let confirm = "{Move: {confirm: {variable: valve, equals: 5, within: 0}}}";
    for (terms, value, end) in [
        (terms(confirm), 5, (State::Succeeded, Some(Reason::EdgeCrashed))),
        (terms(confirm), 4, (State::Unknown, Some(Reason::EdgeCrashed))),
        (Terms::default(), 5, (State::Unknown, Some(Reason::EdgeCrashed))),
    ] {
        let device = Device { values: Mutex::new([("valve".to_owned(), Value::UInt(value))].into()), ..Device::default() };
        let mut bench = bench(terms, device);
        bench.job("1", "Move", later(), Stage::InDoubt).await;
        assert_eq!(bench.told().await, end);
        assert_eq!(bench.asked(), 0);
    }
}

#[tokio::test]
async fn commands_of_a_device_are_executed_one_after_the_other_in_their_order() {
    let mut bench = bench(Terms::default(), Device::default());
    for id in ["1", "2", "3"] {
        bench.give(id, id, later()).await;
    }
    for _ in 0..6 {
        bench.told().await;
    }
    let asked: Vec<String> = bench.device.asked.lock().expect("unharmed").iter().map(|request| request.method.clone()).collect();
    assert_eq!(asked, ["1", "2", "3"]);
}
