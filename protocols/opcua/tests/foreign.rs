//! Any other server, by hand: it must have counters that grow by one, ten times a second. Example:
//! `OPENFACTORY_OPCUA_PORT=4840 OPENFACTORY_OPCUA_PATH=/test OPENFACTORY_OPCUA_NODES='ns=1;s=counter' OPENFACTORY_OPCUA_COUNTERS=100 \
//!  cargo test -p gateway-opcua --test foreign -- --ignored --nocapture`
//! with `OPENFACTORY_OPCUA_SECURITY='{policy: basic256sha256, trust: any}'` for a secured connection.

mod support;

use std::time::Duration;

use asset_stream::Value;
use support::proxy::{Mode, Proxy};
use support::{Edge, assert_gapless};

const SOON: Duration = Duration::from_secs(30);

fn setting(name: &str, default: &str) -> String {
    std::env::var(format!("OPENFACTORY_OPCUA_{name}")).unwrap_or_else(|_| default.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server, see above"]
async fn cuts_and_silence_lose_nothing() {
    let number = |name: &str, default: &str| setting(name, default).parse::<usize>().expect("a number");
    let (counters, port) = (number("COUNTERS", "10"), u16::try_from(number("PORT", "4840")).expect("a port"));
    let proxy = Proxy::start(port).await;
    let mut yaml = format!(
        "server:\n  uri: opc.tcp://127.0.0.1:{}{}\n  security: {}\n  subscription: {{queue_size: 300, sampling_interval: {}}}\n  \
         session: {{keep_alive_interval: 1000, request_timeout: 2000}}\nvariables:\n",
        proxy.port,
        setting("PATH", "/"),
        setting("SECURITY", "{policy: none}"),
        setting("SAMPLING", "0")
    );
    for i in 0..counters {
        yaml += &format!("  c{i}: {{node_id: '{}{i}'}}\n", setting("NODES", "ns=2;s=counter"));
    }
    let edge = Edge::start(&yaml);
    edge.wait_for_number("c0", 1, SOON).await;
    let faults =
        [("cut", Mode::Cut, 1), ("cut", Mode::Cut, 1), ("cut", Mode::Cut, 5), ("silence", Mode::Swallow, 8), ("cut", Mode::Cut, 20)];
    for (what, mode, seconds) in faults {
        let before = edge.kept().last_number("c0");
        proxy.set(mode);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        proxy.set(Mode::Pass);
        let reached = before + 10 * i64::try_from(seconds).expect("small") + 20;
        for i in 0..counters {
            let id = format!("c{i}");
            edge.wait_for_number(&id, reached, SOON).await;
            // Values that the server's own simulation gave in a burst are lost in the server: their times tell.
            let kept = edge.kept();
            for pair in kept.of(&id).windows(2) {
                if let (Value::Int(a), Value::Int(b)) = (&pair[0].value, &pair[1].value)
                    && *b != a + 1
                {
                    println!("{id}: {a} at {}, then {b} at {}", pair[0].timestamp, pair[1].timestamp);
                }
            }
            assert_gapless(&id, &kept.numbers(&id));
        }
        println!("{what} of {seconds} s: nothing lost up to {reached}; gaps {:?}", edge.kept().texts("gap"));
    }
    assert_eq!(edge.kept().texts("gap"), [""; 0]);
}
