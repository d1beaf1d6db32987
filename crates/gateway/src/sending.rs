//! Sending a request to its service until there is an answer, or none to be had.
//!
//! ```text
//! gate     every endpoint works on as many requests as it may: wait in the service's line
//! choose   an endpoint that this request has not met (`policy::balance`), in the tier that is active
//! try      `tries`
//! decide   after a failure: `policy::retry` says whether, where and when again, and the budget pays for it
//! silence  the endpoint is silent far beyond the usual: a second try starts beside the first; the first answer wins
//! park     nobody could be reached, and nothing was sent: wait until somebody can
//! ```
//! All of it draws from one deadline. A request is sent a second time only if its method is idempotent and all of it is at
//! hand, or if it is proven that no byte of it reached an endpoint.
use std::net::IpAddr;
use std::sync::Arc;

use std::time::Duration;

use kernel::trace::Kept;
use kernel::{ErrorCode, Moment};
use policy::balance::{self, Balance, Fleet, HashKey, Pick, Standing, Want};
use policy::gate::Ticket;
use policy::outlier::Failure as Blame;
use policy::request::RequestView;

use crate::facts::View;
use crate::forward::Answer;
use crate::h1::Framing;
use crate::plan::{HeaderEdits, ServicePlan};
use crate::pool::Reuse;
use crate::request::{End, Failure, Serving};
use crate::round::Round;
use crate::service::{Place, ServiceState, Trial};
use crate::state::{EndpointState, NO_ANSWER};
use crate::story::Mark;
use crate::tries::{Cause, Event, Fault, Over, Start, Tries, Try};
use crate::upload::Upload;

/// Why an endpoint was chosen, in words.
fn chosen(course: &Course<'_>, next: Next, standing: Standing) -> &'static str {
    match (standing, &course.service.balance) {
        _ if next.only.is_some() => "the same again, on a new connection",
        (Standing::Trial, _) => "the one trial of an endpoint in doubt",
        (Standing::Poor, _) => "nobody better is left",
        (Standing::Dead, _) => "its checks fail, and nobody else is left",
        _ if course.endpoints.len() == 1 => "the only endpoint",
        (_, Balance::RoundRobin) => "its turn",
        (_, Balance::LeastOutstanding) => "fewest requests in flight for its weight and speed",
        (_, Balance::Hash(_)) if course.hash.is_some() => "the hash of the request's key",
        (_, Balance::Hash(_)) => "the request has no key: fewest requests in flight",
    }
}

/// Interim answers (1xx) to one request, at most.
const INTERIM_MAX: u32 = 32;

/// A request on its way.
pub(crate) struct Course<'a> {
    pub(crate) service: &'a ServicePlan,
    pub(crate) state: &'a Arc<ServiceState>,
    pub(crate) endpoints: &'a [Arc<EndpointState>],
    pub(crate) upload: Upload,
    pub(crate) tries: Tries<'a>,
    /// Bit per endpoint; those beyond 128 count as untried, until as many connections failed as there are endpoints.
    pub(crate) tried: u128,
    pub(crate) reuse: Reuse,
    pub(crate) turn: u64,
    pub(crate) hash: Option<u64>,
    pub(crate) tier: u8,
    pub(crate) until: Moment,
    /// The client waits until then.
    pub(crate) latest: Moment,
    pub(crate) timeout: Duration,
    /// All of the request is at hand.
    pub(crate) replayable: bool,
    pub(crate) awaits_continue: bool,
    pub(crate) interims: u32,
    /// Attempts that found a connection.
    pub(crate) attempts: u32,
    /// Attempts that found none since the request last waited.
    pub(crate) unreached: usize,
    /// Whether bytes of it may have reached an endpoint.
    pub(crate) sent: bool,
    pub(crate) free_used: bool,
    pub(crate) hedged: bool,
    /// The end of its time at the gate, and of its time parked, once it has been there.
    pub(crate) gate_until: Option<Moment>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) parked_until: Option<Moment>,
}

/// What the next try is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub(crate) cause: Cause,
    pub(crate) charged: bool,
    /// Endpoints that were met already will do.
    pub(crate) same: bool,
    /// This one and no other.
    pub(crate) only: Option<usize>,
}

/// An endpoint that takes the next try, and what was claimed of it.
struct Taken {
    at: usize,
    place: Place,
    trial: Option<Trial>,
    /// Why this one, in words.
    chosen: &'static str,
}

/// Whether a try could be begun.
pub(crate) enum Begun {
    Yes,
    /// Every endpoint that would do works on as many requests as it may.
    Full,
    /// There is none that would do.
    None,
}

impl<'a> Serving<'a> {
    /// Sends the request to the service until there is an answer, or none to be had.
    pub(crate) async fn forward(&mut self, service: &'a ServicePlan) -> Result<End, Failure> {
        let mut course = self.set_out(service).await?;
        self.first(&mut course).await?;
        loop {
            let (round, tries) = self.round(&mut course);
            let event = round.wait(tries).await;
            match event {
                Event::Interim(i) => self.interim(&mut course, i).await?,
                Event::Silent => self.hedge(&mut course),
                Event::Over(over) => return Err(self.over(&mut course, over)),
                Event::Failed(i, fault) => self.failed(&mut course, i, fault).await?,
                Event::Answer(i) => {
                    if let Some(end) = self.answered(&mut course, i).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Reads a small body and says how long everything may take.
    async fn set_out(&mut self, service: &'a ServicePlan) -> Result<Course<'a>, Failure> {
        let held = self.held;
        let plan = &held.snapshot.plan;
        let index = self.service.unwrap_or_default();
        let max_body = self.route_plan().and_then(|r| r.max_body).unwrap_or(plan.edge.max_body);
        let mut timeout = self.route_plan().and_then(|r| r.timeout).unwrap_or(service.timeout);
        let asked = self.facts.deadline.unwrap_or(Duration::MAX);
        if asked.is_zero() {
            return Err(self.fault_over(Over::Timeout, self.facts.framing == Framing::None));
        }
        timeout = timeout.min(asked);
        let streamed = match self.facts.framing {
            Framing::None => false,
            Framing::Length(n) if !self.facts.expects_continue && n <= service.retry.max_replay => {
                self.read_small_body(n as usize).await?;
                false
            }
            _ => true,
        };
        let framing = if streamed { self.facts.framing } else { Framing::None };
        let now = if self.facts.framing == Framing::None { self.facts.started } else { self.core.clock().now() };
        let state = &held.snapshot.services[index];
        let tier = if state.has_tiers() { state.tier(&mut self.core.entropy.borrow_mut()) } else { 0 };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let repeatable = self.facts.idempotent && !streamed;
        self.mark(now, Mark::Routed { timeout_ms, repeatable, tier });
        Ok(Course {
            service,
            state,
            endpoints: &held.snapshot.endpoints[index],
            upload: Upload::new(framing, max_body, &plan.edge, now),
            tries: Tries::default(),
            tried: 0,
            reuse: if self.facts.idempotent && !streamed { Reuse::Any } else { Reuse::Sure },
            // One turn for each request: were a failed attempt another, two endpoints would take turns at failing.
            turn: held.turn(index),
            hash: self.hash(service),
            tier,
            until: now + timeout,
            latest: self.facts.started + asked,
            timeout,
            replayable: !streamed,
            awaits_continue: self.facts.expects_continue,
            interims: 0,
            attempts: 0,
            unreached: 0,
            sent: false,
            free_used: false,
            hedged: false,
            gate_until: None,
            ticket: None,
            parked_until: None,
        })
    }

    /// What a consistent hash goes by, if the service balances by one.
    fn hash(&self, service: &ServicePlan) -> Option<u64> {
        let Balance::Hash(key) = &service.balance else { return None };
        let view = View { buf: self.buf.filled(), head: self.scratch.request.head() };
        match key {
            HashKey::Header(name) => view.header(name).map(balance::hash),
            HashKey::Cookie(name) => view.cookie(name).map(balance::hash),
            HashKey::Address => Some(match self.facts.client {
                IpAddr::V4(v4) => balance::hash(&v4.octets()),
                IpAddr::V6(v6) => balance::hash(&v6.octets()),
            }),
        }
    }

    /// The first try, or the first since nobody could be reached.
    pub(crate) async fn first(&mut self, course: &mut Course<'a>) -> Result<(), Failure> {
        let limited = course.service.gate.per_endpoint.is_some();
        let next = Next { cause: Cause::First, charged: false, same: false, only: None };
        let others_wait = limited && course.state.gate.waiting() > 0;
        let begun = if others_wait { Begun::Full } else { self.begin(course, next) };
        self.through_the_gate(course, next, begun).await
    }

    /// Waits at the gate for as long as it takes to begin.
    pub(crate) async fn through_the_gate(
        &mut self,
        course: &mut Course<'a>,
        next: Next,
        mut begun: Begun,
    ) -> Result<(), Failure> {
        loop {
            begun = match begun {
                Begun::Yes => return Ok(()),
                Begun::None => {
                    let why = match course.endpoints {
                        [] => "no endpoint is known yet",
                        _ => "no endpoint may be sent requests",
                    };
                    return Err(self.not_sent(course, ErrorCode::UpstreamUnreachable, why));
                }
                Begun::Full => self.stand_at_the_gate(course, next).await?,
            }
        }
    }

    /// Begins a try at the endpoint whose place was handed over, if it will do.
    pub(crate) fn begin_at(&mut self, course: &mut Course<'a>, next: Next, place: Place) -> bool {
        let now = self.core.clock().now();
        let fleet = course.candidates(course.state.has_tiers().then_some(course.tier), now);
        let here = |i: &usize| place.is_at(&course.endpoints[*i]);
        let Some(at) = (0..fleet.len()).find(here) else {
            place.give_back();
            return false;
        };
        if fleet.tried(at) || fleet.standing(at) != Standing::Good {
            place.give_back();
            return false;
        }
        let taken = Taken { at, place, trial: None, chosen: "its place got free" };
        self.start(course, next, taken, now);
        true
    }

    /// Begins a try at an endpoint that will do.
    pub(crate) fn begin(&mut self, course: &mut Course<'a>, next: Next) -> Begun {
        let core = self.core;
        let fresh = next.cause == Cause::First && self.facts.framing == Framing::None && course.gate_until.is_none();
        let now = if fresh && course.parked_until.is_none() { self.facts.started } else { core.clock().now() };
        // A claim can come too late when workers race; each round then sees what the others did.
        for _ in 0..=course.endpoints.len().min(8) {
            let at = match self.pick(course, next, now) {
                Pick::At(at) => at,
                Pick::Full => return Begun::Full,
                Pick::None => return Begun::None,
            };
            let endpoint = &course.endpoints[at];
            let standing = endpoint.standing(now);
            let trial = match standing {
                Standing::Trial => match Trial::claim(endpoint) {
                    None => continue,
                    trial => trial,
                },
                _ => None,
            };
            let Some(place) = Place::claim(endpoint, course.service.gate.per_endpoint) else { continue };
            let chosen = chosen(course, next, standing);
            self.start(course, next, Taken { at, place, trial, chosen }, now);
            return Begun::Yes;
        }
        Begun::Full
    }

    fn pick(&self, course: &Course<'a>, next: Next, now: Moment) -> Pick {
        if let Some(only) = next.only {
            return Pick::At(only);
        }
        let mut fleet = course.candidates(course.state.has_tiers().then_some(course.tier), now);
        let want = Want {
            safe: self.facts.idempotent && course.replayable && next.cause != Cause::Silence,
            again: next.same,
            hash: course.hash,
            fail_open: course.service.fail_open,
        };
        let mut entropy = self.core.entropy.borrow_mut();
        let picked = balance::choose(&course.service.balance, &fleet, want, course.turn, &mut entropy);
        if !matches!(picked, Pick::None) || fleet.tier.is_none() || course.state.forced_tier().is_some() {
            return picked;
        }
        // The tier has nobody left for this request: any other will do.
        fleet.tier = None;
        balance::choose(&course.service.balance, &fleet, want, course.turn, &mut entropy)
    }

    fn start(&mut self, course: &mut Course<'a>, next: Next, taken: Taken, now: Moment) {
        let Taken { at, place, trial, chosen } = taken;
        let core = self.core;
        let mut parser = std::mem::take(&mut self.scratch.response);
        parser.reset();
        let (cause, charged, reuse) = (next.cause, next.charged, course.reuse);
        let endpoint = &course.endpoints[at];
        self.endpoint = Some(endpoint);
        self.attempts += 1;
        let number = self.attempts;
        if trial.is_some() {
            self.keep(Kept::Trial);
        }
        let place_of = u16::try_from(at).unwrap_or(u16::MAX);
        let (tier, why) = (endpoint.tier(), cause.label());
        self.mark(now, Mark::Try { number, at: place_of, tier, chosen, cause: why, charged });
        let start = Start { at, number, cause, charged, place, trial, reuse, parser };
        endpoint.traffic.shard(core.index).started.inc();
        if let Some(cause) = start.cause.index() {
            course.state.tries.shard(core.index).by_cause[cause].inc();
        }
        course.tried |= 1u128.checked_shl(start.at as u32).unwrap_or(0);
        if self.scratch.out.is_empty() {
            self.write_out(course.service, &endpoint.plan, !course.replayable);
        }
        if !course.upload.is_over() {
            // The client was not asked for its body while the request looked for an endpoint.
            course.upload.restart_pace(&self.held.snapshot.plan.edge, now);
        }
        // What is on its way in part must not change under it.
        if course.tries.is_empty() {
            self.write_remaining(course.until, now);
        }
        course.tries.begin(core, course.service, endpoint, start, course.until, now);
    }

    fn round<'r>(&'r mut self, course: &'r mut Course<'a>) -> (Round<'r, 'a>, &'r mut Tries<'a>) {
        let round = Round {
            core: self.core,
            client: &mut *self.client,
            buf: &mut *self.buf,
            edge: &self.held.snapshot.plan.edge,
            service: course.service,
            state: course.state,
            out: &self.scratch.out,
            upload: &mut course.upload,
            to_head: self.facts.to_head,
            upgrade: self.facts.upgrade,
            may_hold: self.facts.idempotent && course.replayable,
            until: &mut course.until,
            latest: course.latest,
            timeout: course.timeout,
            awaits_continue: &mut course.awaits_continue,
        };
        (round, &mut course.tries)
    }

    /// RFC 9110, 15.2: interim answers are passed on, but not 100 to who did not ask, nor any to HTTP/1.0.
    async fn interim(&mut self, course: &mut Course<'a>, i: usize) -> Result<(), Failure> {
        course.interims += 1;
        let now = self.core.clock().now();
        let Some(one) = course.tries.get_mut(i) else { return Ok(()) };
        one.endpoint.hear(now);
        if course.interims > INTERIM_MAX {
            let fault = Fault::Malformed(crate::h1::HeadError::Status);
            return self.failed(course, i, fault).await;
        }
        let head = one.parser.head();
        let status = head.status;
        let wanted = self.facts.http11 && (status != 100 || self.facts.expects_continue);
        if wanted && let Some(buf) = one.conn().and_then(|c| c.buf.as_ref()) {
            let no_edits = HeaderEdits::default();
            let interim = Answer {
                buf: buf.filled(),
                head,
                request_id: b"",
                chunked: false,
                close: false,
                http10: false,
                edits: &no_edits,
                extra: &[],
            };
            let mut answer = std::mem::take(&mut self.scratch.answer);
            answer.clear();
            interim.write(&mut answer);
            let sent = self.client.send(&answer, course.until).await;
            answer.clear();
            self.scratch.answer = answer;
            if !sent {
                return Err(self.over(course, Over::ClientGone));
            }
        }
        if let Some(one) = course.tries.get_mut(i) {
            one.next_answer(now);
        }
        if status == 100 && course.awaits_continue {
            // From now on the body is expected.
            course.awaits_continue = false;
            course.upload.restart_pace(&self.held.snapshot.plan.edge, self.core.clock().now());
        }
        Ok(())
    }

    /// The request is over, whatever its tries do.
    pub(crate) fn over(&mut self, course: &mut Course<'a>, over: Over) -> Failure {
        let now = self.core.clock().now();
        let late = matches!(over, Over::Timeout);
        for one in course.tries.drain().collect::<Vec<_>>() {
            self.lose(course, one, late, now);
        }
        let read_whole = course.upload.is_done();
        self.bytes_in = self.bytes_in.max(course.upload.total());
        self.fault_over(over, read_whole)
    }

    /// A try that is given up. `late`: because the request's time is up.
    pub(crate) fn lose(&mut self, course: &Course<'a>, one: Try<'a>, late: bool, now: Moment) {
        self.tell_of_connection(&one);
        self.mark(now, Mark::GivenUp { number: one.number });
        self.end_attempt(one.endpoint, NO_ANSWER, one.sent_at());
        if one.charged {
            course.state.settle(false, now);
        }
        // Silence alone is no proof; that somebody else answered meanwhile, or that all the time passed, is.
        if one.speaks() && one.is_silent(late, now) {
            course.state.failed(one.endpoint, Blame::Silent, now);
        }
        let (conn, parser) = one.into_conn();
        if let Some(buf) = conn.and_then(|mut c| c.buf.take()) {
            self.core.buffers.give(buf);
        }
        self.scratch.response = parser;
    }
}
