//! The whole demo with a stand-in for the gateway: a pipe to the first replica.

use std::sync::{Arc, Mutex};

use kernel::journal::{Boot, Journal};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Passes bytes between its clients and the first endpoint of the configuration.
async fn pipe(config: String, seen: Arc<Mutex<String>>) -> anyhow::Result<Running> {
    let parsed: toml::Table = config.parse()?;
    let endpoints = parsed["service"]["shop"]["endpoints"].as_array().context("no endpoints")?.clone();
    assert_eq!(endpoints.len(), REPLICAS);
    let first: SocketAddr = endpoints[0].as_str().context("no address")?.parse()?;
    *seen.lock().unwrap() = config;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = listener.local_addr()?;
    let piping = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(first).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let stop = Box::pin(async move { piping.abort() });
    let journal = Arc::new(Journal::unkept(Clock::real(), Boot::new(&mut Entropy::from_seed(1))));
    let nothing = || Why::NotKept { oldest_unix_ms: None, sample_one_in: 1, slow_ms: 1_000 };
    let (why, traces) = (Box::new(move |_: &str| nothing()), Box::new(|_: usize, _: &str| Vec::new()));
    let (put_away, view) = (Box::pin(std::future::ready(())), Box::new(GatewayView::default));
    Ok(Running { gateway, console: gateway, view, journal, why, traces, stop, put_away })
}

#[tokio::test]
async fn it_runs_for_its_time_and_ends_with_a_summary() {
    let seen = Arc::new(Mutex::new(String::new()));
    let options = DemoOptions { run_for: Some(Duration::from_millis(600)), ..DemoOptions::default() };
    let mut out = Vec::new();
    let start = |config| pipe(config, Arc::clone(&seen));
    run_on(&mut out, false, options, start, &mut Asked::listen().unwrap()).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("gateway http://127.0.0.1:"), "{text}");
    assert!(text.contains("\nconsole http://127.0.0.1:"), "{text}");
    assert!(text.contains("\nsuccess     100.00 % ("), "{text}");
    assert!(text.contains("\nreplica 1   100.00 %"), "{text}");
    let config: toml::Table = seen.lock().unwrap().parse().unwrap();
    assert_eq!(config["gateway"]["listen"].as_str(), Some("127.0.0.1:0"));
    let directory = config["store"]["directory"].as_str().unwrap();
    assert!(!std::path::Path::new(directory).exists(), "{directory} is left behind");
}

#[tokio::test]
async fn a_gateway_that_cannot_be_started_ends_it_with_the_reason() {
    let start = |_| async { Err(anyhow::anyhow!("the port is taken")) };
    let mut out = Vec::new();
    let ended = run_on(&mut out, false, DemoOptions::default(), start, &mut Asked::listen().unwrap()).await;
    let told = format!("{:#}", ended.unwrap_err());
    assert_eq!(told, "starting the demo's gateway: the port is taken");
    assert!(out.is_empty());
}
