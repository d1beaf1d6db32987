//! Active health checks: GET on a fresh connection, as the service's clients would reach it, or the connection alone.
//! One task per endpoint on the control plane; what a result means is decided by `policy::health` and by the service's
//! judge. The data plane only reads the outcome.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kernel::{Clock, Entropy};
use policy::health::{Change, Health, Rule, next_delay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::h1::ResponseParser;
use crate::plan::{HealthKind, HealthPlan};
use crate::service::ServiceState;
use crate::state::EndpointState;
use crate::tries::ANSWER_LIMITS;

/// Of a check's answer, so much is read at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("connect failed: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broke(io::Error),
    #[error("closed before an answer")]
    Closed,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("not an HTTP/1.1 answer: {0}")]
    Malformed(crate::h1::HeadError),
    #[error("status {0}")]
    Status(u16),
}

/// Checks one endpoint until the task is aborted.
pub(crate) async fn watch(
    service: Arc<ServiceState>,
    endpoint: Arc<EndpointState>,
    plan: HealthPlan,
    clock: Clock,
    mut entropy: Entropy,
) {
    let mut health = Health::new(Rule { fall: plan.fall, rise: plan.rise });
    if !endpoint.healthy.load(Ordering::Relaxed) {
        // It was down before the reload: it stays down until it has risen.
        for _ in 0..plan.fall {
            let _known = health.observe(false);
        }
    }
    // Not all at once after a start, and soon.
    tokio::time::sleep(plan.interval.min(Duration::from_secs(1)).mul_f64(entropy.unit() / 4.0)).await;
    loop {
        let result = match tokio::time::timeout(plan.timeout, check(&endpoint, &plan)).await {
            Ok(result) => result,
            Err(_) => Err(CheckError::Timeout(plan.timeout)),
        };
        let change = health.observe(result.is_ok());
        let words = match (&result, change) {
            (Ok(()), Some(Change::Up)) => format!("{} checks in a row passed", plan.rise),
            (Ok(()), _) => "checks pass".to_owned(),
            (Err(error), Some(Change::Down)) => format!("{} checks in a row failed: {error}", plan.fall),
            (Err(error), _) => format!("last check failed: {error}"),
        };
        if result.is_err() || health.is_up() {
            *endpoint.reason.lock().unwrap_or_else(PoisonError::into_inner) = words;
        }
        service.checked(&endpoint, result.is_ok(), change, clock.now());
        endpoint.healthy.store(health.is_up(), Ordering::Relaxed);
        rest(&endpoint, &health, &plan, &mut entropy).await;
    }
}

/// Waits until the next check is due: sooner where the last one spoke against the endpoint's state, and as soon as
/// requests find the endpoint in doubt.
async fn rest(endpoint: &EndpointState, health: &Health, plan: &HealthPlan, entropy: &mut Entropy) {
    let fast = next_delay(plan.fast_interval.min(plan.interval), entropy);
    if health.against() > 0 || endpoint.is_in_doubt() {
        return tokio::time::sleep(fast).await;
    }
    let whole = next_delay(plan.interval, entropy);
    // The doubt is seen at the pace of the fast interval.
    let mut left = whole;
    while !left.is_zero() && !endpoint.is_in_doubt() {
        let step = left.min(fast);
        tokio::time::sleep(step).await;
        left -= step;
    }
}

/// Knocks once: a check as the service's, within its time, or else a connection within `connect_timeout`. True if it is
/// there.
pub(crate) async fn knock(endpoint: &EndpointState, plan: Option<&HealthPlan>, connect_timeout: Duration) -> bool {
    match plan {
        Some(plan) => tokio::time::timeout(plan.timeout, check(endpoint, plan)).await.is_ok_and(|r| r.is_ok()),
        None => tokio::time::timeout(connect_timeout, connect(&endpoint.plan.addresses)).await.is_ok_and(|r| r.is_ok()),
    }
}

async fn check(endpoint: &EndpointState, plan: &HealthPlan) -> Result<(), CheckError> {
    let mut io = connect(&endpoint.plan.addresses).await.map_err(CheckError::Connect)?;
    let HealthKind::Http { path, host, expect } = &plan.kind else {
        // A connection was made: that is all that was asked.
        return Ok(());
    };
    let host = host.as_deref().unwrap_or(&endpoint.plan.name);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: evenkeel-check\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.map_err(CheckError::Broke)?;
    let mut parser = ResponseParser::default();
    let mut bytes = Vec::with_capacity(2048);
    loop {
        let read = (&mut io).take(2048).read_buf(&mut bytes).await.map_err(CheckError::Broke)?;
        if read == 0 || bytes.len() > ANSWER_BYTES_MAX {
            return Err(CheckError::Closed);
        }
        while parser.parse(&bytes, &ANSWER_LIMITS, false).map_err(CheckError::Malformed)? {
            let status = parser.head().status;
            if status >= 200 {
                let passes = expect.iter().any(|(low, high)| (*low..=*high).contains(&status));
                return if passes { Ok(()) } else { Err(CheckError::Status(status)) };
            }
            // An interim answer: the final one is still to come.
            bytes.drain(..parser.head().length);
            parser.reset();
        }
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(io) => return Ok(io),
            Err(error) => last = error,
        }
    }
    Err(last)
}
