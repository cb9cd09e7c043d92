//! The parts that tests stand on: they must break things as promised, or tests prove nothing.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use system_tests::devices::{Devices, Make, Plan};
use system_tests::judge::Journal;
use system_tests::judge::sources::Topic;
use system_tests::kafka::{self, Kafka};
use system_tests::nats::{Nats, Subscriber};
use system_tests::process::Process;
use system_tests::proxy::{Fault, Proxy};
use system_tests::wait;

type Outcome = anyhow::Result<()>;

#[test]
fn a_stopped_kafka_keeps_its_data_and_its_port() -> Outcome {
    let mut kafka = Kafka::start()?;
    let bootstrap = kafka.bootstrap();
    kafka::create_topic(&bootstrap, "kept", 2, &[])?;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &bootstrap).create()?;
    for key in ["a", "b", "c"] {
        producer.send(BaseRecord::to("kept").key(key).payload("{}")).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(10))?;
    drop(producer);
    kafka.stop()?;
    kafka.start_again()?;
    assert_eq!(kafka.bootstrap(), bootstrap);
    let mut keys = HashMap::new();
    let count = Topic::open(&bootstrap, "kept")?
        .read_to_end(Duration::from_secs(20), |record| *keys.entry(record.key.clone()).or_insert(0) += 1)?;
    assert_eq!((count, keys.len()), (3, 3), "{keys:?}");
    Ok(())
}

#[test]
fn a_plain_subscriber_hears_what_it_asked_for() -> Outcome {
    let nats = Nats::start()?;
    let subscriber = Subscriber::start(&nats.url(), &["PRESS-1".to_owned()])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = async_nats::connect(nats.url()).await?;
        for subject in ["PRESS-2.temp", "PRESS-1.temp"] {
            client.publish(subject, "24.3".into()).await?;
        }
        anyhow::Ok(client.flush().await?)
    })?;
    wait::until_true("a message comes", Duration::from_secs(10), || subscriber.count() > 0)?;
    assert_eq!(subscriber.received(0)[0].subject, "PRESS-1.temp");
    Ok(())
}

#[test]
fn the_proxy_passes_cuts_refuses_and_swallows() -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    let proxy = Proxy::start(address)?;
    let connect = || -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, proxy.port())))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        Ok(stream)
    };
    let echo = |stream: &mut TcpStream| -> std::io::Result<u8> {
        stream.write_all(&[7])?;
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| byte[0])
    };
    let mut stream = connect()?;
    assert_eq!(echo(&mut stream)?, 7);
    proxy.set(Fault::Swallow);
    let error = echo(&mut stream).expect_err("the byte must vanish");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection must stay open: {error}");
    proxy.set(Fault::None);
    assert!(echo(&mut stream).is_err(), "a connection that lost bytes must not come back");
    let mut stream = connect()?;
    assert_eq!(echo(&mut stream)?, 7);
    proxy.set(Fault::Delay(Duration::from_millis(50)));
    let begun = Instant::now();
    assert_eq!(echo(&mut stream)?, 7);
    assert!(begun.elapsed() >= Duration::from_millis(100), "a delay each way: {:?}", begun.elapsed());
    proxy.set(Fault::None);
    proxy.cut();
    assert!(echo(&mut stream).is_err(), "the connection must be cut");
    assert_eq!(echo(&mut connect()?)?, 7, "new ones must get through");
    proxy.set(Fault::Refuse);
    assert!(connect().and_then(|mut stream| Ok(echo(&mut stream)?)).is_err(), "nothing must get through");
    Ok(())
}

#[test]
fn what_we_start_dies_with_the_thread_that_started_it() -> Outcome {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("sleep.log");
    let id = std::thread::spawn(move || {
        let process = Process::start("sleep", "sleep".as_ref(), &["60".to_owned()], &[], &log).expect("sleep starts");
        let id = process.id();
        let program = || std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        wait::until_true("the child became sleep", Duration::from_secs(10), || program() == "sleep\n").expect("it starts");
        // As if this thread's process had been killed: nobody runs the destructor.
        std::mem::forget(process);
        id
    })
    .join()
    .expect("the thread ends");
    let state = || std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Z: killed, and nobody asked for its exit status.
    wait::until_true("the kernel kills the child", Duration::from_secs(10), || state().is_empty() || state().contains(") Z "))
}

#[test]
fn simulators_of_all_makes_tell_what_they_said() -> Outcome {
    for make in [Make::Asyncua, Make::PymodbusTcp, Make::PymodbusRtu, Make::Fast] {
        let folder = tempfile::tempdir()?;
        let mut devices = Devices::start(Plan::new(make, 2, 3), folder.path())?;
        let yaml = devices.device_file(|port| port)?;
        assert!(yaml.contains("uuid:"), "{yaml}");
        devices.go()?;
        let reads = matches!(make, Make::PymodbusTcp | Make::PymodbusRtu);
        let said = devices.pause()?;
        // Modbus devices say something when they are asked.
        assert!(reads || said >= 6, "{make:?} said {said}");
        if said > 0 {
            assert_eq!(Journal::read(&[devices.journal()])?.said(), said, "{make:?}");
        }
        devices.kill()?;
        if make != Make::Fast {
            devices.start_again()?;
        }
    }
    Ok(())
}
