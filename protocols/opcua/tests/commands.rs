//! Commands to a server that we did not write, and that counts what it does.

mod support;

use std::time::Duration;

use asset_stream::Value;
use asset_stream::command::status::Reason;
use gateway::{Ending, Request};
use serde_json::json;
use support::proxy::{Mode, Proxy};
use support::server::Server;
use support::{Edge, python, wait_until};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

fn yaml(port: u16) -> String {
    let mut yaml = format!(
        "server:\n  uri: opc.tcp://127.0.0.1:{port}/test\n  \
         session: {{keep_alive_interval: 1000, request_timeout: 2000, connect_timeout: 3000, action_timeout: 3000}}\nvariables:\n"
    );
    for name in ["bool", "byte", "int", "big", "float", "double", "text", "local", "mode", "list", "fixed", "missing"] {
        yaml += &format!("  {name}: {{node_id: \"ns=2;s={name}\", access_level: rw}}\n");
    }
    yaml + "  watched: {node_id: \"ns=2;s=int\"}\nmethods: {plant: {node_id: \"ns=2;s=Plant\"}}\n"
}

fn request(method: &str, arguments: &[(&str, &str)]) -> Request {
    let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { method: method.to_owned(), arguments }
}

async fn ask(edge: &Edge, method: &str, arguments: &[(&str, &str)]) -> Ending {
    timeout(SOON, edge.actions.ready()).await.expect("the server is reached");
    timeout(SOON, edge.actions.execute(&request(method, arguments))).await.expect("an action ends")
}

fn refused(ending: Ending) -> (&'static str, Reason, String) {
    match ending {
        Ending::Done(result) => panic!("done: {result:?}"),
        Ending::NotDone(refusal) => ("not done", refusal.reason, refusal.detail),
        Ending::Unknown(refusal) => ("unknown", refusal.reason, refusal.detail),
    }
}

/// How often a word stands in what was done.
async fn times(server: &mut Server, word: &str) -> usize {
    server.tell("done").await.matches(&format!("\"{word}\"")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_are_called_with_what_the_server_declares_and_their_results_come_back() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "workshop.py", &[]).await;
    let edge = Edge::start(&yaml(server.port));
    // In any order.
    let moved = ask(&edge, "Move_Axis", &[("fast", "true"), ("x", "10.5"), ("steps", "-3")]).await;
    assert_eq!(moved, Ending::Done(Some(json!({"distance": 21.0, "count": u64::MAX}))));
    assert_eq!(ask(&edge, "Total", &[("values", "[1, 2.5]")]).await, Ending::Done(Some(json!([3.5]))));
    assert_eq!(ask(&edge, "Select", &[("mode", "Automatic")]).await, Ending::Done(Some(json!({"mode": "Automatic"}))));
    assert_eq!(ask(&edge, "Select", &[("mode", "1")]).await, Ending::Done(Some(json!({"mode": "Manual"}))));
    assert_eq!(ask(&edge, "Stop", &[]).await, Ending::Done(None));
    let done = server.tell("done").await;
    assert_eq!(done, r#"["move 10.5 -3 True", "total [1.0, 2.5]", "select 2", "select 1", "stop"]"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_are_written_in_the_type_that_the_server_has_and_read_back() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "workshop.py", &[]).await;
    let edge = Edge::start(&yaml(server.port));
    for (name, text, held, read) in [
        ("bool", "true", "True Boolean", Value::Bool(true)),
        ("byte", "200", "200 Byte", Value::UInt(200)),
        ("int", "-7", "-7 Int32", Value::Int(-7)),
        ("big", "18446744073709551615", "18446744073709551615 UInt64", Value::UInt(u64::MAX)),
        ("float", "24.3", "24.299999237060547 Float", Value::Float32(24.3)),
        ("double", "0.1", "0.1 Double", Value::Float64(0.1)),
        ("text", "grün", "'grün' String", Value::from("grün")),
        ("mode", "Manual", "1 Int32", Value::from("Manual")),
        ("list", "[3, -4]", "[3, -4] Int16", Value::Array(vec![Value::Int(3), Value::Int(-4)])),
    ] {
        assert_eq!(ask(&edge, name, &[("value", text)]).await, Ending::Done(None), "{name}");
        assert_eq!(server.tell(&format!("value {name}")).await, held);
        assert_eq!(edge.actions.read(name).await, Ok(read), "{name}");
        assert_eq!(times(&mut server, &format!("write {name}")).await, 1);
    }
    assert_eq!(ask(&edge, "local", &[("value", "Störung")]).await, Ending::Done(None));
    assert_eq!(edge.actions.read("local").await, Ok(Value::from("Störung")));
    let change = || edge.kept().numbers("watched").contains(&-7).then_some(()).ok_or(0);
    wait_until("the written value is told", SOON, change).await;
    server.tell("bad").await;
    let bad = edge.actions.read("int").await.expect_err("a bad value is none");
    assert!(bad.contains("BadSensorFailure"), "{bad}");
    assert!(edge.actions.read("missing").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_answers_says_whether_it_was_done() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "workshop.py", &[]).await;
    let edge = Edge::start(&yaml(server.port));
    for (code, state, words) in [
        (0x803C_0000_u32, "not done", "the server answered BadOutOfRange (0x803C0000)"),
        (0x801F_0000, "not done", "BadUserAccessDenied"),
        (0x80AB_0000, "not done", "BadInvalidArgument"),
        (0x8002_0000, "unknown", "BadInternalError"),
        (0x800A_0000, "unknown", "BadTimeout"),
        (0x80AF_0000, "unknown", "BadInvalidState"),
        (0x4000_0000, "unknown", "Uncertain"),
    ] {
        let (seen, reason, detail) = refused(ask(&edge, "Refuse", &[("code", &code.to_string())]).await);
        assert_eq!((seen, reason), (state, Reason::DeviceRefused), "{detail}");
        assert!(detail.contains(words), "{detail}");
    }
    assert_eq!(times(&mut server, "refuse").await, 7, "each was asked once, whatever it answered");
    let (state, reason, detail) = refused(ask(&edge, "Fail", &[]).await);
    assert_eq!((state, reason), ("unknown", Reason::DeviceRefused), "{detail}");
    assert_eq!(times(&mut server, "fail").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_work_is_known_without_asking() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "workshop.py", &[]).await;
    let edge = Edge::start(&yaml(server.port));
    timeout(SOON, edge.actions.ready()).await.expect("the server is reached");
    assert_eq!(edge.actions.check(&request("Stop", &[])), Ok(()));
    assert_eq!(edge.actions.check(&request("int", &[("value", "5")])), Ok(()));
    for (method, arguments, reason, words) in [
        ("Stopp", [].as_slice(), Reason::UnknownMethod, "is Stop meant?"),
        ("watched", &[("value", "1")], Reason::UnknownMethod, "`access_level: rw` in the device file"),
        ("fixed", &[("value", "1")], Reason::UnknownMethod, "the server lets nobody write it"),
        ("Stop", &[("now", "1")], Reason::UnknownArgument, "Stop takes no arguments"),
        ("Select", &[("mod", "1")], Reason::UnknownArgument, "is mode meant?"),
        ("Move_Axis", &[("x", "1"), ("steps", "1")], Reason::MissingArgument, "fast is missing"),
        ("Move_Axis", &[("x", "1"), ("steps", "1.5"), ("fast", "1")], Reason::WrongType, "steps: 1.5 is no whole number"),
        ("Move_Axis", &[("x", "1"), ("steps", "40000"), ("fast", "1")], Reason::OutOfRange, "-32768 to 32767"),
        ("Select", &[("mode", "Fast")], Reason::OutOfRange, "none of Off (0), Manual (1), Automatic (2)"),
        ("Total", &[("values", "7")], Reason::WrongType, "no array"),
        ("int", &[], Reason::MissingArgument, "`value` is missing"),
        ("int", &[("value", "1"), ("of", "2")], Reason::UnknownArgument, "of"),
        ("byte", &[("value", "256")], Reason::OutOfRange, "0 to 255"),
        ("list", &[("value", "[1, \"a\"]")], Reason::WrongType, "no number"),
    ] {
        let request = request(method, arguments);
        let refusal = edge.actions.check(&request).expect_err("it cannot work");
        assert_eq!(refusal.reason, reason, "{request:?}: {}", refusal.detail);
        assert!(refusal.detail.contains(words), "{request:?}: {}", refusal.detail);
        let (state, executed, _) = refused(edge.actions.execute(&request).await);
        assert_eq!((state, executed), ("not done", reason));
    }
    // A node that the server does not have: it is the server that says so.
    let (state, reason, _) = refused(edge.actions.execute(&request("missing", &[("value", "1")])).await);
    assert_eq!((state, reason), ("not done", Reason::DeviceRefused));
    assert_eq!(server.tell("done").await, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_server_is_met_only_the_device_file_is_known() {
    // A port where nobody listens.
    let proxy = Proxy::start(1).await;
    proxy.set(Mode::Cut);
    let edge = Edge::start(&yaml(proxy.port));
    assert_eq!(edge.actions.check(&request("Anything", &[("x", "1")])), Ok(()));
    assert_eq!(edge.actions.check(&request("int", &[("value", "anything")])), Ok(()));
    let reason = |method, arguments: &[(&str, &str)]| edge.actions.check(&request(method, arguments)).map_err(|refusal| refusal.reason);
    assert_eq!(reason("watched", &[("value", "1")]), Err(Reason::UnknownMethod));
    assert_eq!(reason("int", &[]), Err(Reason::MissingArgument));
    let (state, reason, _) = refused(edge.actions.execute(&request("int", &[("value", "1")])).await);
    assert_eq!((state, reason), ("not done", Reason::DeviceAway));
    assert!(edge.actions.read("int").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_under_way_leaves_the_call_unknown_and_it_is_not_sent_again() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "workshop.py", &[]).await;
    let proxy = Proxy::start(server.port).await;
    let edge = Edge::start(&yaml(proxy.port));
    for (calls, mode) in [(1, Mode::Cut), (2, Mode::Swallow)] {
        timeout(SOON, edge.actions.ready()).await.expect("the server is reached");
        let actions = edge.actions.clone();
        let called = tokio::spawn(async move { actions.execute(&request("Wait", &[("seconds", "0.5")])).await });
        let mut begun = 0;
        while begun < calls {
            begun = times(&mut server, "wait").await;
        }
        proxy.set(mode);
        let ending = timeout(SOON, called).await.expect("an action ends").expect("no panic");
        let (state, reason, detail) = refused(ending);
        assert_eq!((state, reason), ("unknown", Reason::NoAnswer), "{detail}");
        // It is away until it is connected again.
        let away = || if edge.kept().of("avail").len() == 2 * calls { Ok(()) } else { Err(edge.kept().texts("avail")) };
        wait_until("the loss", SOON, away).await;
        let (state, reason, _) = refused(edge.actions.execute(&request("Stop", &[])).await);
        assert_eq!((state, reason), ("not done", Reason::DeviceAway));
        proxy.set(Mode::Pass);
        timeout(SOON, edge.actions.ready()).await.expect("the server is reached again");
        assert_eq!(times(&mut server, "wait").await, calls, "{mode:?}");
    }
    assert_eq!(ask(&edge, "Stop", &[]).await, Ending::Done(None));
    assert_eq!(server.tell("done").await, r#"["wait", "wait", "stop"]"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_takes_longer_than_the_limit_leaves_the_call_unknown() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "workshop.py", &[]).await;
    let edge = Edge::start(&yaml(server.port).replace("action_timeout: 3000", "action_timeout: 300"));
    let (state, reason, detail) = refused(ask(&edge, "Wait", &[("seconds", "1")]).await);
    assert_eq!((state, reason, detail.as_str()), ("unknown", Reason::NoAnswer, "the server did not answer within 300 ms"));
    // Its late answer is for nobody.
    let stopped = |edge| async move { ask(edge, "int", &[("value", "3")]).await };
    timeout(SOON, async { while stopped(&edge).await != Ending::Done(None) {} }).await.expect("it answers again");
    assert_eq!(times(&mut server, "wait").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_outlive_a_stop_and_a_server_that_is_started_anew() {
    let Some(python) = python() else { return };
    let server = Server::start_script(&python, "workshop.py", &[]).await;
    let port = server.port;
    let mut edge = Edge::start(&yaml(port));
    assert_eq!(ask(&edge, "Stop", &[]).await, Ending::Done(None));
    server.kill().await;
    let lost = || if edge.kept().of("avail").len() == 2 { Ok(()) } else { Err(edge.kept().texts("avail")) };
    wait_until("the loss", SOON, lost).await;
    let mut server = Server::start_script(&python, "workshop.py", &["--port", &port.to_string()]).await;
    assert_eq!(ask(&edge, "Stop", &[]).await, Ending::Done(None));
    assert_eq!(server.tell("done").await, r#"["stop"]"#);
    edge.stop().await;
    let (state, reason, _) = refused(edge.actions.execute(&request("Stop", &[])).await);
    assert_eq!((state, reason), ("not done", Reason::DeviceAway));
    assert_eq!(times(&mut server, "stop").await, 1);
}
