//! One task for each name in DNS: asks when it is time, keeps the last good answer, says when DNS fails and when it is back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway::plan::EndpointPlan;
use kernel::{DrainPhase, Entropy, Event};
use policy::resolve::Resolution;

use super::dns::{Dns, DnsError};
use super::{Inner, Sources};

/// All servers and repetitions together; a resolver that is silent for longer has failed.
const ANSWER: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The addresses of a name, for this port.
    Addresses(String, u16),
    /// The SRV records of a name.
    Records(String),
}

impl Question {
    /// What there is to ask for one service.
    pub(super) fn all(sources: &Sources) -> Vec<Question> {
        let addresses = sources.dns.iter().map(|(host, port)| Question::Addresses(host.clone(), *port));
        addresses.chain(sources.srv.iter().cloned().map(Question::Records)).collect()
    }

    /// Whether it asks for the same kind of thing: a service has one question of each kind.
    pub(super) fn is_like(&self, other: &Question) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn name(&self) -> &str {
        match self {
            Question::Addresses(name, _) | Question::Records(name) => name,
        }
    }

    async fn ask(&self, dns: &Dns) -> Result<(Vec<EndpointPlan>, Duration), DnsError> {
        match self {
            Question::Addresses(host, port) => dns.addresses(host, *port).await,
            Question::Records(name) => dns.records(name).await,
        }
    }
}

/// Asks until the drain is closed or the task is aborted.
pub(super) async fn run(inner: Arc<Inner>, service: String, question: Question, servers: Option<Vec<SocketAddr>>) {
    let mut drain = inner.drain.clone();
    let mut known = Resolution::new(inner.clock.now());
    // A jitter that repeats is better than a name that is not asked for.
    let mut entropy = Entropy::from_os().unwrap_or_else(|_| Entropy::from_seed(inner.clock.now().as_nanos()));
    let mut first = true;
    let mut dns = None;
    loop {
        let wait = known.due().since(inner.clock.now());
        tokio::select! {
            () = drain.reached(DrainPhase::Closed) => return,
            () = tokio::time::sleep(wait) => {}
        }
        let asked = tokio::time::timeout(ANSWER, ask(&mut dns, servers.as_deref(), &question));
        let answer = asked.await.unwrap_or(Err(DnsError::Silent(ANSWER)));
        let now = inner.clock.now();
        match answer {
            Ok((endpoints, ttl)) => {
                if known.failures() > 0 {
                    let name = question.name().to_owned();
                    inner.journal.tell(Event::DnsReturned { service: service.clone(), name });
                }
                let changed = known.answered(endpoints, ttl, now, &mut entropy);
                inner.answered(&service, &question, known.in_force().filter(|_| changed));
            }
            Err(error) => {
                if known.failures() == 0 {
                    let (name, error) = (question.name().to_owned(), error.to_string());
                    inner.journal.tell(Event::DnsLost { service: service.clone(), name, error });
                }
                known.failed(now, &mut entropy);
                inner.unanswered(&service, &error);
                // The system's servers may be others by now.
                dns = None;
            }
        }
        if std::mem::take(&mut first) {
            // Tasks of later configurations do not count.
            let _none_left =
                inner.unasked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
        }
    }
}

/// What the journal is told of another answer.
fn changed_to(service: &str, name: &str, before: &[EndpointPlan], now: &[EndpointPlan]) -> Event {
    let without = |all: &[EndpointPlan], these: &[EndpointPlan]| {
        let rest: Vec<&str> =
            all.iter().filter(|e| !these.iter().any(|t| t.name == e.name)).map(|e| e.name.as_str()).collect();
        if rest.is_empty() { "none".to_owned() } else { rest.join(", ") }
    };
    Event::DnsChanged {
        service: service.to_owned(),
        name: name.to_owned(),
        endpoints: now.len() as u64,
        added: without(now, before),
        removed: without(before, now),
    }
}

async fn ask(
    dns: &mut Option<Dns>,
    servers: Option<&[SocketAddr]>,
    question: &Question,
) -> Result<(Vec<EndpointPlan>, Duration), DnsError> {
    let dns = match dns {
        Some(dns) => dns,
        None => dns.insert(Dns::new(servers)?),
    };
    question.ask(dns).await
}

impl Inner {
    /// DNS answered; `changed` is the answer if it is another one.
    fn answered(&self, service: &str, question: &Question, changed: Option<&Vec<EndpointPlan>>) {
        let mut state = self.state();
        let Some(found) = state.services.get_mut(service) else { return };
        found.counts.answered += 1;
        let Some(endpoints) = changed else { return };
        let Some(asked) = found.asked.iter_mut().find(|asked| asked.question == *question) else { return };
        self.journal.tell(changed_to(service, question.name(), &asked.answer, endpoints));
        asked.answer.clone_from(endpoints);
        self.publish(service, found);
    }

    fn unanswered(&self, service: &str, error: &DnsError) {
        let mut state = self.state();
        let Some(found) = state.services.get_mut(service) else { return };
        match error {
            DnsError::Empty => found.counts.empty += 1,
            _ => found.counts.failed += 1,
        }
    }
}
