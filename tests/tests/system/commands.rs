//! Commands: given by a plain Kafka client, executed by devices that we did not write, told in the asset stream.

use std::time::Duration;

use asset_stream::command::signature::PrivateKey;
use asset_stream::command::status::{Reason, State};
use system_tests::cloud::Copier;
use system_tests::commanded::{Follower, Order, Press, Sender, press_assets};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::plant::Plant;
use system_tests::process;
use system_tests::proxy::Fault;
use system_tests::{tools, wait};

const MAX: Duration = Duration::from_secs(90);

/// Everybody may do everything, unsigned.
const OPEN: &str = "[[commands.allow]]\nsenders = [\"*\"]\nsignature = \"optional\"\n";

/// An installation with one press.
struct Site {
    press: Press,
    plant: Plant,
    sender: Sender,
    lives: Follower,
    /// The topic of commands.
    topic: String,
}

impl Site {
    fn start(name: &str, kafka: Broker, rules: &str, terms: &str) -> anyhow::Result<Self> {
        let way = kafka.bootstrap();
        Self::start_over(name, kafka, way, rules, terms)
    }

    fn start_over(name: &str, kafka: Broker, way: String, rules: &str, terms: &str) -> anyhow::Result<Self> {
        let topic = format!("{name}-cmds-{}-{}", std::process::id(), wait::now());
        let rules = format!("[commands]\ntopic = \"{topic}\"\n{rules}");
        let mut plant = Plant::over(name, kafka, way, &rules)?;
        let press = Press::start(plant.folder())?;
        plant.edge.device_file("press", &press.device_file(terms))?;
        kafka::create_topic(&plant.kafka.bootstrap(), &topic, 4, &[])?;
        let sender = Sender::new(&plant.kafka.bootstrap(), &topic)?;
        let lives = Follower::open(&plant.kafka.bootstrap(), plant.topic())?;
        plant.edge.start()?;
        plant.edge.wait_connected(&press_assets(), MAX)?;
        Ok(Self { press, plant, sender, lives, topic })
    }

    /// A Kafka of its own, to which the edge's way can be broken.
    fn start_with_link(name: &str) -> anyhow::Result<Self> {
        let kafka = Kafka::start_with_link()?;
        let way = kafka.link_bootstrap()?;
        Self::start_over(name, Broker::Own(kafka), way, OPEN, "{}")
    }

    fn end_of(&mut self, order: &Order) -> anyhow::Result<(State, Option<Reason>)> {
        let end = self.lives.end_of(order, MAX).map_err(|error| error.context(self.plant.edge.log_tail()))?;
        Ok((end.state, end.reason))
    }
}

/// A call of Move, which the press notes with the id.
fn order(id: &str) -> Order {
    Order::new("PRESS-OPC", "Move", id, &[("order", id), ("speed", "1")])
}

#[test]
fn every_kind_of_action_is_done_once_and_its_life_is_told() -> anyhow::Result<()> {
    let terms = "{setpoint: {confirm: {variable: setpoint, equals_argument: value}}, Close: {precondition: {variable: door, equals: open}, confirm: {variable: valve, equals: closed}}}";
    let mut site = Site::start("commands-kinds", Broker::shared()?, OPEN, terms)?;
    let orders = [
        Order::new("PRESS-OPC", "Move", "call", &[("order", "call"), ("speed", "1.5")]),
        Order::new("PRESS-OPC", "setpoint", "write", &[("value", "24.5")]),
        Order::new("PRESS-OPC", "Close", "confirmed", &[]),
        Order::new("PRESS-MB", "speed", "one register", &[("value", "1200")]),
        Order::new("PRESS-MB", "force", "two registers", &[("value", "1.5")]),
    ];
    for order in &orders {
        site.sender.give(order)?;
    }
    for order in &orders {
        assert_eq!(site.end_of(order)?, (State::Succeeded, None), "{order:?}");
    }
    let lives = site.lives.read()?;
    lives.expect_sound()?;
    let states: Vec<State> = lives.of("PRESS-OPC", "call").iter().map(|status| status.state).collect();
    assert_eq!(states, [State::Accepted, State::Executing, State::Succeeded]);
    assert_eq!(lives.end("PRESS-OPC", "call").and_then(|end| end.result.clone()), Some(serde_json::json!({"place": 3.0})));
    let mut done = site.press.done()?;
    done.sort();
    assert_eq!(done, ["modbus 10 1200", "modbus 20 16320,0", "opcua Close -", "opcua Move call"]);
    site.plant.stop()
}

#[test]
fn each_kind_of_bad_input_is_rejected_with_its_own_reason_and_reaches_no_device() -> anyhow::Result<()> {
    let key = PrivateKey::from_seed(&[7; 32]);
    let rules = format!(
        "[[commands.allow]]\nsenders = [\"HMI-1\"]\nsignature = \"optional\"\nmethods = [\"Move\", \"speed\", \"setpoint\", \"pressure\", \"None\", \"Refuse\"]\narguments = {{speed = {{max = 100}}}}\n[[commands.allow]]\nsenders = [\"HMI-1\"]\nmethods = [\"Close\"]\n[commands.keys]\n\"HMI-1\" = \"{}\"\n",
        key.public()
    );
    let mut site = Site::start("commands-bad", Broker::shared()?, &rules, "{}")?;
    let order_of = |method, id: &str, arguments: &[(&'static str, &str)]| Order::new("PRESS-OPC", method, id, arguments);
    let mut late = order_of("Move", "late", &[("order", "x"), ("speed", "1")]);
    late.expires_in = Some(-1_000);
    let far = Order { expires_in: Some(48 * 3_600_000), ..order_of("Move", "far", &[("order", "x"), ("speed", "1")]) };
    let expected = [
        (order_of("None", "no method", &[]), State::Rejected, Reason::UnknownMethod),
        (order_of("Move", "no argument", &[("order", "x")]), State::Rejected, Reason::MissingArgument),
        (order_of("Move", "unknown argument", &[("order", "x"), ("speed", "1"), ("sped", "1")]), State::Rejected, Reason::UnknownArgument),
        (order_of("Move", "no number", &[("order", "x"), ("speed", "fast")]), State::Rejected, Reason::WrongType),
        (order_of("Move", "out of range", &[("order", "x"), ("speed", "101")]), State::Rejected, Reason::OutOfRange),
        (order_of("Close", "unsigned", &[]), State::Rejected, Reason::Unsigned),
        (order_of("Delay", "not allowed", &[]), State::Rejected, Reason::NotAllowed),
        (late, State::Expired, Reason::ArrivedLate),
        (far, State::Rejected, Reason::OutOfRange),
        (Order::new("PRESS-MB", "pressure", "read only", &[("value", "1")]), State::Rejected, Reason::UnknownMethod),
        (Order::new("PRESS-MB", "speed", "too large", &[("value", "99")]), State::Succeeded, Reason::Malformed),
        (order_of("Refuse", "refused", &[("order", "refused")]), State::Failed, Reason::DeviceRefused),
    ];
    for (order, ..) in &expected {
        site.sender.give(order)?;
    }
    let forged = Order::new("PRESS-OPC", "Close", "forged", &[]);
    let mut command = forged.command();
    command.header.signature = Some(key.sign("PRESS-MB", "Close", &command));
    site.sender.command("PRESS-OPC", "Close", &command)?;
    let signed = Order::new("PRESS-OPC", "Close", "signed", &[]);
    let mut command = signed.command();
    command.header.signature = Some(key.sign("PRESS-OPC", "Close", &command));
    site.sender.command("PRESS-OPC", "Close", &command)?;
    site.sender.value("PRESS-OPC", "Move", &"{no JSON".into())?;
    // An announcement asks for nothing.
    site.sender.value("PRESS-OPC", "Move", &"".into())?;
    for (order, state, reason) in &expected {
        let (seen, why) = site.end_of(order)?;
        let expected = if *state == State::Succeeded { None } else { Some(*reason) };
        assert_eq!((seen, why), (*state, expected), "{order:?}");
    }
    assert_eq!(site.end_of(&forged)?, (State::Rejected, Some(Reason::Forged)));
    assert_eq!(site.end_of(&signed)?, (State::Succeeded, None));
    let lives = wait::until("the malformed one is told", MAX, || {
        let lives = site.lives.read()?;
        let malformed = lives.lives.values().flatten().filter(|status| status.reason == Some(Reason::Malformed)).count();
        Ok(if malformed == 1 { wait::Look::Done(()) } else { wait::Look::Waiting(format!("{malformed} of them")) })
    });
    lives?;
    site.lives.read()?.expect_sound()?;
    let mut done = site.press.done()?;
    done.sort();
    assert_eq!(done, ["modbus 10 99", "opcua Close -", "opcua Refuse refused"]);
    site.plant.stop()
}

#[test]
fn an_edge_that_dies_at_any_step_of_a_command_does_it_at_most_once_and_tells_one_end() -> anyhow::Result<()> {
    let mut site = Site::start("commands-killed", Broker::shared()?, OPEN, "{}")?;
    let points = ["claimed", "accepted", "executing", "answered", "ended", "claimed:2", "accepted:2", "executing:3"];
    for (round, point) in points.iter().enumerate() {
        site.plant.edge.stop()?;
        // Given while the edge is away: nothing of it is missed.
        let ids: Vec<String> = (0..4).map(|i| format!("{round}-{i}")).collect();
        for id in &ids {
            site.sender.give(&order(id))?;
        }
        site.plant.edge.start_with(&[("OPENFACTORY_FAIL_POINT", format!("commands.{point}"))])?;
        site.plant.edge.wait_died(MAX)?;
        site.plant.edge.start()?;
        let lives = site.lives.wait_ended("PRESS-OPC", &ids, MAX).map_err(|error| error.context(site.plant.edge.log_tail()))?;
        for id in &ids {
            let end = lives.end("PRESS-OPC", id).map(|end| end.state);
            let times = site.press.times(&format!("opcua Move {id}"))?;
            match end {
                Some(State::Succeeded) => assert_eq!(times, 1, "{point}: {id} succeeded"),
                Some(State::Unknown) => assert!(times <= 1, "{point}: {id} was done {times} times"),
                other => panic!("{point}: {id} ended as {other:?}"),
            }
        }
        let unknown = ids.iter().filter(|id| lives.end("PRESS-OPC", id).is_some_and(|end| end.state == State::Unknown)).count();
        let may_hide = point.starts_with("executing") || point.starts_with("answered");
        assert_eq!(unknown, usize::from(may_hide), "{point}: a crash hides the outcome of the one command that was being executed");
    }
    site.lives.read()?.expect_sound()?;
    site.plant.stop()
}

#[test]
fn the_same_command_a_hundred_times_is_done_once() -> anyhow::Result<()> {
    let mut site = Site::start("commands-repeated", Broker::shared()?, OPEN, "{}")?;
    let again = order("again");
    let command = again.command();
    for i in 0..100 {
        site.sender.command("PRESS-OPC", "Move", &command)?;
        if i == 50 {
            assert_eq!(site.end_of(&again)?, (State::Succeeded, None));
            site.plant.edge.kill()?;
            site.plant.edge.start()?;
        }
    }
    let mut other = command;
    other.arguments[1].1 = "2".into();
    site.sender.command("PRESS-OPC", "Move", &other)?;
    // Behind all of them.
    let last = order("last");
    site.sender.give(&last)?;
    assert_eq!(site.end_of(&last)?, (State::Succeeded, None));
    assert_eq!((site.press.times("opcua Move again")?, site.press.times("opcua Move last")?), (1, 1));
    site.lives.read()?.expect_sound()?;
    site.plant.stop()
}

#[test]
fn of_two_edges_that_serve_the_same_asset_one_does_it() -> anyhow::Result<()> {
    let mut site = Site::start("commands-two", Broker::shared()?, OPEN, "{}")?;
    let config = std::fs::read_to_string(site.plant.edge.config())?;
    let more = config.split_once("[commands]").map(|(_, rest)| format!("[commands]{rest}")).expect("it has rules");
    let settings = system_tests::edge::Settings {
        id: "edge-second".into(),
        kafka: Some(site.plant.kafka.bootstrap()),
        topic: site.plant.topic().to_owned(),
        more,
    };
    let mut second = system_tests::edge::Edge::new(site.plant.folder(), &settings)?;
    second.device_file("press", &site.press.device_file("{}"))?;
    second.start()?;
    second.wait_connected(&press_assets(), MAX)?;
    let ids: Vec<String> = (0..40).map(|i| format!("two-{i}")).collect();
    for (i, id) in ids.iter().enumerate() {
        site.sender.give(&order(id))?;
        match i {
            // One of them takes over from the other, and back.
            10 => site.plant.edge.kill()?,
            20 => site.plant.edge.start()?,
            30 => second.kill()?,
            _ => {}
        }
    }
    second.start()?;
    let lives = site.lives.wait_ended("PRESS-OPC", &ids, MAX)?;
    lives.expect_sound()?;
    for id in &ids {
        let (end, times) = (lives.end("PRESS-OPC", id).map(|end| end.state), site.press.times(&format!("opcua Move {id}"))?);
        assert!(times <= 1 && (end != Some(State::Succeeded) || times == 1), "{id} ended as {end:?} and was done {times} times");
    }
    second.stop()?;
    site.plant.stop()
}

#[test]
fn a_device_that_does_not_answer_leaves_the_outcome_unknown_and_is_not_asked_again() -> anyhow::Result<()> {
    let mut site = Site::start("commands-silent", Broker::shared()?, OPEN, "{}")?;
    site.press.mute()?;
    let silent = Order::new("PRESS-MB", "speed", "silent", &[("value", "7")]);
    site.sender.give(&silent)?;
    assert_eq!(site.end_of(&silent)?, (State::Unknown, Some(Reason::NoAnswer)));
    site.press.speak()?;
    // The other device was not held up, and this one goes on.
    let next = Order::new("PRESS-MB", "speed", "next", &[("value", "8")]);
    site.sender.give(&next)?;
    assert_eq!(site.end_of(&next)?, (State::Succeeded, None));
    assert_eq!((site.press.times("modbus 10 7")?, site.press.times("modbus 10 8")?), (1, 1));
    // A dead device: what waits for it expires.
    site.press.kill()?;
    let dead = Order { expires_in: Some(3_000), ..order("dead") };
    site.sender.give(&dead)?;
    let (state, reason) = site.end_of(&dead)?;
    // Whether the edge has noticed by then that the device is away is a matter of moments.
    assert!(
        matches!(
            (state, reason),
            (State::Expired, Some(Reason::WaitedTooLong))
                | (State::Unknown, Some(Reason::NoAnswer))
                | (State::Failed, Some(Reason::DeviceAway))
        ),
        "{state} {reason:?}"
    );
    site.press.start_again()?;
    let alive = order("alive");
    site.sender.give(&alive)?;
    assert_eq!(site.end_of(&alive)?, (State::Succeeded, None));
    assert_eq!(site.press.times("opcua Move dead")?, 0, "the press was dead");
    site.lives.read()?.expect_sound()?;
    site.plant.stop()
}

#[test]
fn commands_given_while_the_edge_has_no_way_to_kafka_are_done_when_it_is_back_or_expire() -> anyhow::Result<()> {
    let mut site = Site::start_with_link("commands-outage")?;
    let first = order("first");
    site.sender.give(&first)?;
    assert_eq!(site.end_of(&first)?, (State::Succeeded, None));
    site.plant.kafka.own()?.link()?.set(Fault::Refuse);
    let soon = Order { expires_in: Some(500), ..order("soon") };
    let patient = order("patient");
    site.sender.give(&soon)?;
    site.sender.give(&patient)?;
    let expires = wait::now() + 1_000;
    wait::until_true("the deadline has passed", MAX, || wait::now() > expires)?;
    assert_eq!(site.press.times("opcua Move patient")?, 0, "nothing reaches the edge");
    site.plant.kafka.own()?.link()?.set(Fault::None);
    assert_eq!(site.end_of(&soon)?, (State::Expired, Some(Reason::ArrivedLate)));
    assert_eq!(site.end_of(&patient)?, (State::Succeeded, None));
    assert_eq!((site.press.times("opcua Move soon")?, site.press.times("opcua Move patient")?), (0, 1));
    // The way is lost between a claim and what follows from it, again and again.
    let ids: Vec<String> = (0..30).map(|i| format!("cut-{i}")).collect();
    for id in &ids {
        site.sender.give(&order(id))?;
        site.plant.kafka.own()?.link()?.cut();
    }
    let lives = site.lives.wait_ended("PRESS-OPC", &ids, MAX)?;
    for id in &ids {
        assert_eq!(lives.end("PRESS-OPC", id).map(|end| end.state), Some(State::Succeeded), "{id}");
        assert_eq!(site.press.times(&format!("opcua Move {id}"))?, 1, "{id}");
    }
    site.lives.read()?.expect_sound()?;
    site.plant.stop()
}

#[test]
fn a_person_commands_a_device_through_the_copier_by_a_signature_and_audits_it() -> anyhow::Result<()> {
    let key = PrivateKey::from_seed(&[9; 32]);
    let rules = format!("[[commands.allow]]\nsenders = [\"ENGINEER-*\"]\n[commands.keys]\n\"ENGINEER-1\" = \"{}\"\n", key.public());
    let site = Site::start("commands-people", Broker::shared()?, &rules, "{}")?;
    let folder = site.plant.folder();
    let mut copier = Copier::start(folder, &site.plant.kafka.bootstrap(), site.plant.topic(), &site.topic)?;
    let config = copier.config().to_owned();
    let pem = folder.join("engineer-1.pem");
    let made = std::process::Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&pem).status()?;
    anyhow::ensure!(made.success(), "openssl makes no key");
    let cloud = tools::built("openfactory-cloud")?;
    let person = |arguments: &[&str]| process::run(&cloud, &[arguments, &["--config", &config.to_string_lossy()]].concat(), MAX);
    let send = [
        "command",
        "send",
        "--asset",
        "PRESS-OPC",
        "--method",
        "Move",
        "--arg",
        "order=by-hand",
        "--arg",
        "speed=2",
        "--sender",
        "ENGINEER-1",
    ];

    let (code, out, err) = person(&[&send[..], &["--wait"]].concat())?;
    anyhow::ensure!(code == Some(3) && out.contains("rejected") && out.contains("not signed"), "unsigned: {code:?} {out}{err}");
    let pem_path = pem.to_string_lossy();
    let other = [&send[..], &["--sign", &pem_path, "--wait"]].concat();
    let (code, out, err) = person(&other)?;
    anyhow::ensure!(
        code == Some(3) && out.contains("none of the sender's keys"),
        "with a key that the edge does not know: {code:?} {out}{err}"
    );

    // The edge learns the new key by a reload, and the device is not touched.
    let public = PrivateKey::from_pem(&std::fs::read_to_string(&pem)?)?.public().to_string();
    let edge = std::fs::read_to_string(site.plant.edge.config())?.replace(&key.public().to_string(), &public);
    std::fs::write(site.plant.edge.config(), edge)?;
    let (code, out, err) = site.plant.edge.command(&["reload"])?;
    anyhow::ensure!(code == Some(0) && out.contains("the rules for commands are others"), "{code:?} {out}{err}");
    let (code, out, err) = person(&other)?;
    let steps: Vec<&str> = ["requested", "accepted", "executing", "succeeded"].into_iter().filter(|step| out.contains(step)).collect();
    anyhow::ensure!(code == Some(0) && steps.len() == 4 && out.contains("4"), "{code:?} {out}{err}");
    assert_eq!(site.press.times("opcua Move by-hand")?, 1);

    let (code, out, err) = person(&["audit"])?;
    println!("{out}");
    anyhow::ensure!(code == Some(0) && out.contains("succeeded") && out.contains("ENGINEER-1"), "{code:?} {out}{err}");
    copier.stop()?;
    let mut site = site;
    site.lives.read()?.expect_sound()?;
    site.plant.stop()
}
