//! Runs the gateway alone and prints what it tells: `cargo run -p gateway-modbus --example probe -- connector.yaml`.
//! The file holds what stands below `connector:` in a device file, without `type`.

use std::io::Write;
use std::sync::Arc;

use asset_stream::document::{Document, Environment, Problems};
use gateway::{DeviceLink, Outcome, supervise};
use gateway_modbus::{Buses, ModbusGateway, parse};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, mut samples) = gateway::channel(1 << 24);
    let (buses, stop) = (Buses::new(), CancellationToken::new());
    for path in std::env::args().skip(1) {
        let (problems, environment) = (Problems::new(), Environment::process());
        let document = Document::parse(&path, &std::fs::read(&path)?, &problems);
        let config = document.as_ref().and_then(|document| parse(document.root(&environment, &problems)));
        drop(document);
        problems.into_vec().iter().for_each(|problem| eprintln!("{problem}"));
        let gateway = Arc::new(ModbusGateway::new(config.ok_or("the file is not valid")?, &buses)?);
        let link = DeviceLink::new(path.as_str(), path.to_uppercase(), sender.clone());
        let status = link.status().clone();
        tokio::spawn(supervise(gateway, link, stop.clone()));
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let error = status.last_error();
                if error != last {
                    eprintln!("{path}: {error:?}");
                    last = error;
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        });
    }
    drop(sender);
    let mut out = std::io::stdout();
    while let Some(mut batch) = samples.recv().await {
        for sample in batch.take_samples() {
            let mut json = format!("{} ", sample.item.asset).into_bytes();
            sample.encode(&mut json);
            json.push(b'\n');
            out.write_all(&json)?;
        }
        batch.finish(Outcome::Durable);
    }
    Ok(())
}
