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
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use kernel::{Entropy, ErrorCode, Moment};
use policy::balance::{self, Balance, Fleet, HashKey, Pick, Standing, Want};
use policy::budget::Spend;
use policy::outlier::Failure as Blame;
use policy::request::RequestView;
use policy::retry::{self, Again, Asked, Outcome, Why};

use crate::conn;
use crate::facts::View;
use crate::forward::Answer;
use crate::h1::{AnswerFraming, Framing, Name};
use crate::park;
use crate::plan::{HeaderEdits, ServicePlan};
use crate::pool::{AcquireError, Reuse};
use crate::request::{End, Failure, Serving};
use crate::service::{Place, ServiceState, Trial};
use crate::state::{EndpointState, NO_ANSWER, class_of};
use crate::tries::{Cause, Event, Fault, Over, Round, Start, Tries, Try};
use crate::upload::Upload;

/// Interim answers (1xx) to one request, at most.
const INTERIM_MAX: u32 = 32;
/// `Retry-After` of an endpoint is heeded up to this long: it may be meant for one client only.
const REST_MAX: Duration = Duration::from_secs(30);

/// A request on its way.
pub(crate) struct Course<'a> {
    pub(crate) service: &'a ServicePlan,
    pub(crate) state: &'a Arc<ServiceState>,
    endpoints: &'a [Arc<EndpointState>],
    pub(crate) upload: Upload,
    tries: Tries<'a>,
    /// Bit per endpoint; those beyond 128 count as untried, and the number of attempts bounds the loop.
    tried: u128,
    reuse: Reuse,
    turn: u64,
    hash: Option<u64>,
    tier: u8,
    until: Moment,
    timeout: Duration,
    /// All of the request is at hand.
    replayable: bool,
    awaits_continue: bool,
    interims: u32,
    /// Attempts that found a connection.
    attempts: u32,
    /// Attempts that found none since the request last waited.
    unreached: usize,
    /// Whether bytes of it may have reached an endpoint.
    sent: bool,
    free_used: bool,
    hedged: bool,
    /// The end of its time at the gate, and of its time parked, once it has been there.
    gate_until: Option<Moment>,
    parked_until: Option<Moment>,
}

/// The endpoints of a service as one request sees them.
struct Candidates<'c> {
    endpoints: &'c [Arc<EndpointState>],
    tried: u128,
    tier: Option<u8>,
    most: Option<u32>,
    now: Moment,
}

impl Fleet for Candidates<'_> {
    fn len(&self) -> usize {
        self.endpoints.len()
    }

    fn in_flight(&self, i: usize) -> u32 {
        self.endpoints[i].in_flight.load(Ordering::Relaxed)
    }

    fn weight(&self, i: usize) -> u32 {
        self.endpoints[i].weight_permille()
    }

    fn latency_us(&self, i: usize) -> u64 {
        self.endpoints[i].latency_us()
    }

    fn standing(&self, i: usize) -> Standing {
        let endpoint = &self.endpoints[i];
        if self.tier.is_some_and(|tier| tier != endpoint.tier()) {
            return Standing::Never;
        }
        endpoint.standing(self.now)
    }

    fn tried(&self, i: usize) -> bool {
        i < 128 && self.tried & (1 << i) != 0
    }

    fn identity(&self, i: usize) -> u64 {
        self.endpoints[i].identity
    }

    fn full(&self, i: usize) -> bool {
        self.most.is_some_and(|most| self.endpoints[i].in_flight.load(Ordering::Relaxed) >= most)
    }
}

/// What the next try is to be.
#[derive(Clone, Copy, Debug)]
struct Next {
    cause: Cause,
    charged: bool,
    /// Endpoints that were met already will do.
    same: bool,
    /// This one and no other.
    only: Option<usize>,
}

/// Whether a try could be begun.
enum Begun {
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
            let event = self.round(&mut course).wait().await;
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
        if let Some(asked) = self.facts.deadline {
            timeout = timeout.min(asked);
        }
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
            tier: if state.has_tiers() { state.tier(&mut self.core.entropy.borrow_mut()) } else { 0 },
            until: now + timeout,
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

    /// The first try: through the gate, and parked if nobody can be reached.
    async fn first(&mut self, course: &mut Course<'a>) -> Result<(), Failure> {
        let limited = course.service.gate.per_endpoint.is_some();
        let next = Next { cause: Cause::First, charged: false, same: false, only: None };
        let queued_already = limited && course.state.gate.waiting() > 0;
        let mut begun = if queued_already { Begun::Full } else { self.begin(course, next) };
        loop {
            begun = match begun {
                Begun::Yes => return Ok(()),
                Begun::None if course.endpoints.is_empty() => {
                    return Err(self.unreachable("no endpoint is known yet"));
                }
                Begun::None => return Err(self.unreachable("no endpoint may be sent requests")),
                Begun::Full => self.stand_at_the_gate(course, next).await?,
            }
        }
    }

    /// Waits at the gate, then tries again to begin.
    async fn stand_at_the_gate(&mut self, course: &mut Course<'a>, next: Next) -> Result<Begun, Failure> {
        let core = self.core;
        let now = core.clock().now();
        let state = course.state;
        let rule = &course.service.gate;
        let until = course.until.min(*course.gate_until.get_or_insert(now + rule.max_wait));
        let full = |why: &str| Failure {
            code: ErrorCode::ServiceOverloaded,
            detail: why.to_owned(),
            next: crate::conn::Next::Keep,
        };
        let cells = state.tries.shard(core.index);
        let Some(mut waiter) = state.gate.enter(now, until) else {
            cells.shed.inc();
            return Err(full("its queue is full"));
        };
        cells.queued.inc();
        // The place in line is announced: what gets free from here on wakes it. What was free already is looked for, but
        // only by the first in line.
        if state.gate.waiting() == 1
            && let Begun::Yes = self.begin(course, next)
        {
            return Ok(Begun::Yes);
        }
        let turn = self.meanwhile(until, waiter.turn()).await;
        drop(waiter);
        match turn {
            Ok(()) => Ok(self.begin(course, next)),
            Err(Over::Timeout) => {
                cells.shed.inc();
                Err(full("no endpoint got free in time"))
            }
            Err(over) => Err(self.fault_over(over, false)),
        }
    }

    /// Waits for `future` as long as the client is there and it is not `until` yet.
    async fn meanwhile<F: Future>(&mut self, until: Moment, future: F) -> Result<F::Output, Over> {
        let conn::Client { io, deadline, .. } = &mut *self.client;
        let buf = &mut *self.buf;
        deadline.set(until);
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if conn::poll_gone(cx, io, buf) {
                return Poll::Ready(Err(Over::ClientGone));
            }
            deadline.poll(cx).map(|()| Err(Over::Timeout))
        })
        .await
    }

    /// Begins a try at an endpoint that will do.
    fn begin(&mut self, course: &mut Course<'a>, next: Next) -> Begun {
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
            let trial = match endpoint.standing(now) {
                Standing::Trial => match Trial::claim(endpoint) {
                    None => continue,
                    trial => trial,
                },
                _ => None,
            };
            let Some(place) = Place::claim(endpoint, course.service.gate.per_endpoint) else { continue };
            let mut parser = std::mem::take(&mut self.scratch.response);
            parser.reset();
            let (cause, charged, reuse) = (next.cause, next.charged, course.reuse);
            self.send_to(course, Start { at, cause, charged, place, trial, reuse, parser }, now);
            return Begun::Yes;
        }
        Begun::Full
    }

    fn pick(&self, course: &Course<'a>, next: Next, now: Moment) -> Pick {
        if let Some(only) = next.only {
            return Pick::At(only);
        }
        let mut fleet = self.candidates(course, course.state.has_tiers().then_some(course.tier), now);
        let want = Want {
            safe: self.facts.idempotent && course.replayable && next.cause != Cause::Silence,
            again: next.same,
            hash: course.hash,
            fail_open: course.service.fail_open,
        };
        let mut entropy = self.core.entropy.borrow_mut();
        let picked = balance::choose(&course.service.balance, &fleet, want, course.turn, &mut entropy);
        if !matches!(picked, Pick::None) || fleet.tier.is_none() {
            return picked;
        }
        // The tier has nobody left for this request: any other will do.
        fleet.tier = None;
        balance::choose(&course.service.balance, &fleet, want, course.turn, &mut entropy)
    }

    /// The service's endpoints as this request sees them; of one tier, or of all.
    fn candidates(&self, course: &Course<'a>, tier: Option<u8>, now: Moment) -> Candidates<'a> {
        let (endpoints, tried) = (course.endpoints, course.tried);
        Candidates { endpoints, tried, tier, most: course.service.gate.per_endpoint, now }
    }

    fn send_to(&mut self, course: &mut Course<'a>, start: Start, now: Moment) {
        let core = self.core;
        let endpoint = &course.endpoints[start.at];
        self.endpoint = Some(endpoint);
        self.attempts += 1;
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

    fn round<'r>(&'r mut self, course: &'r mut Course<'a>) -> Round<'r, 'a> {
        Round {
            core: self.core,
            client: &mut *self.client,
            buf: &mut *self.buf,
            edge: &self.held.snapshot.plan.edge,
            service: course.service,
            state: course.state,
            out: &self.scratch.out,
            upload: &mut course.upload,
            tries: &mut course.tries,
            to_head: self.facts.to_head,
            upgrade: self.facts.upgrade,
            may_hold: self.facts.idempotent && course.replayable,
            until: &mut course.until,
            timeout: course.timeout,
            awaits_continue: &mut course.awaits_continue,
        }
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
            one.next_answer();
        }
        if status == 100 && course.awaits_continue {
            // From now on the body is expected.
            course.awaits_continue = false;
            course.upload.restart_pace(&self.held.snapshot.plan.edge, self.core.clock().now());
        }
        Ok(())
    }

    /// An endpoint is silent: a second try beside the first, where that is allowed.
    fn hedge(&mut self, course: &mut Course<'a>) {
        let rule = &course.service.retry;
        let safe = self.facts.idempotent && course.replayable;
        // With nobody to turn to who is better, the one that has the request is as good as any.
        let now = self.core.clock().now();
        let fleet = self.candidates(course, None, now);
        if !(0..fleet.len()).any(|i| !fleet.tried(i) && fleet.standing(i) == Standing::Good) {
            return;
        }
        // One is under way and counts too.
        if !rule.hedge || !safe || course.hedged || course.tries.len() != 1 || course.attempts + 1 >= rule.attempts {
            return;
        }
        if course.state.spend(false, now) != Spend::Granted {
            self.refused(course, Why::Budget);
            return;
        }
        course.hedged = true;
        let next = Next { cause: Cause::Silence, charged: true, same: false, only: None };
        if !matches!(self.begin(course, next), Begun::Yes) {
            course.state.settle(false, now);
        }
    }

    fn refused(&self, course: &Course<'_>, why: Why) {
        course.state.tries.shard(self.core.index).refused[why as usize].inc();
    }

    /// The request is over, whatever its tries do.
    fn over(&mut self, course: &mut Course<'a>, over: Over) -> Failure {
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
    fn lose(&mut self, course: &Course<'a>, one: Try<'a>, late: bool, now: Moment) {
        self.end_attempt(one.endpoint, NO_ANSWER);
        if one.charged {
            course.state.settle(false, now);
        }
        // Silence alone is no proof; that somebody else answered meanwhile, or that all the time passed, is.
        if one.speaks() && one.is_silent(late, now) {
            course.state.failed(one.endpoint, Blame::Silent, now);
        }
        if !late {
            course.state.tries.shard(self.core.index).cancelled.inc();
        }
        let (conn, parser) = one.into_conn();
        if let Some(buf) = conn.and_then(|mut c| c.buf.take()) {
            self.core.buffers.give(buf);
        }
        self.scratch.response = parser;
    }

    /// A try has failed: what it says of its endpoint, and whether there is another.
    async fn failed(&mut self, course: &mut Course<'a>, i: usize, fault: Fault) -> Result<(), Failure> {
        let core = self.core;
        let now = core.clock().now();
        let one = course.tries.take(i);
        self.end_attempt(one.endpoint, NO_ANSWER);
        if let Fault::NoConnection(error) = &fault {
            match error {
                AcquireError::Connect(_) | AcquireError::ConnectTimeout(_) => {}
                AcquireError::Deadline => return Err(self.over(course, Over::Timeout)),
                AcquireError::Saturated if course.tries.is_empty() => {
                    return Err(self.fault(fault, course.upload.is_done()));
                }
                AcquireError::Saturated => {}
            }
        }
        let unsent = self.is_unsent(course, &one, &fault);
        let race = self.is_stale_race(&one, &fault, now);
        let outcome = self.blame(course, &one, &fault, race, now);
        if one.charged {
            course.state.settle(false, now);
        }
        let (at, method_safe) = (one.at, self.facts.idempotent);
        self.scratch.response = one.into_conn().1;
        if !course.tries.is_empty() {
            return Ok(());
        }
        let asked = Asked {
            outcome,
            idempotent: method_safe,
            replayable: course.replayable || course.upload.has_not_begun(),
            unsent,
            stale_race: race,
            free_used: course.free_used,
            attempts: course.attempts,
            untried: self.untried(course, now),
            fleet_in_trouble: self.in_trouble(course, now),
            left: course.until.since(now),
            retry_after: None,
        };
        match self.again(course, &asked, at, now).await {
            Ok(true) => Ok(()),
            Ok(false) if outcome == Outcome::ConnectFailed && !course.sent => self.park(course, fault).await,
            Ok(false) => Err(self.fault(fault, course.upload.is_done())),
            Err(over) => Err(self.over(course, over)),
        }
    }

    /// Whether it is proven that no byte of the request reached an endpoint.
    fn is_unsent(&self, course: &mut Course<'a>, one: &Try<'_>, fault: &Fault) -> bool {
        let none = matches!(fault, Fault::NoConnection(_)) || (one.sent == 0 && course.upload.has_not_begun());
        if !none {
            course.sent = true;
        }
        none && !course.sent
    }

    /// Whether the endpoint closed the connection for being idle at the very moment when it was used again.
    fn is_stale_race(&self, one: &Try<'_>, fault: &Fault, now: Moment) -> bool {
        if !matches!(fault, Fault::Closed { silent: true }) || !one.reused {
            return false;
        }
        let memory = one.endpoint.idle_memory();
        let idled = one.conn().map_or(Duration::ZERO, |c| c.idled);
        retry::stale_race(true, idled, memory.shortest(), memory.in_mass_close(now))
    }

    /// Tells the judge what the endpoint is to blame for.
    fn blame(&self, course: &mut Course<'a>, one: &Try<'a>, fault: &Fault, race: bool, now: Moment) -> Outcome {
        let (outcome, blame) = match fault {
            Fault::NoConnection(AcquireError::ConnectTimeout(_)) => {
                (Outcome::ConnectFailed, Some(Blame::ConnectTimeout))
            }
            Fault::NoConnection(AcquireError::Connect(_)) => (Outcome::ConnectFailed, Some(Blame::Refused)),
            Fault::NoConnection(_) => (Outcome::ConnectFailed, None),
            Fault::Closed { silent: true } => (Outcome::Closed, (!race).then_some(Blame::Closed)),
            Fault::Closed { silent: false } | Fault::Truncated | Fault::Malformed(_) => {
                (Outcome::Broken, Some(Blame::Broken))
            }
            Fault::TryTimeout => (Outcome::TimedOut, Some(Blame::Silent)),
        };
        if outcome == Outcome::ConnectFailed {
            course.unreached += 1;
        } else {
            course.attempts += 1;
        }
        if !matches!(fault, Fault::NoConnection(_) | Fault::TryTimeout) {
            one.endpoint.hear(now);
        }
        if let Some(blame) = blame.filter(|_| one.speaks()) {
            course.state.failed(one.endpoint, blame, now);
        }
        outcome
    }

    /// Endpoints that the request has not met and that it may be sent to.
    fn untried(&self, course: &Course<'a>, now: Moment) -> usize {
        let fleet = self.candidates(course, None, now);
        let usable = |i: &usize| {
            !fleet.tried(*i)
                && match fleet.standing(*i) {
                    Standing::Never => false,
                    Standing::Dead => course.service.fail_open,
                    _ => true,
                }
        };
        (0..fleet.len()).filter(usable).count()
    }

    /// Whether everybody whom the request has not met is in trouble.
    fn in_trouble(&self, course: &Course<'a>, now: Moment) -> bool {
        !course.endpoints.iter().any(|e| matches!(e.standing(now), Standing::Good | Standing::Trial))
    }

    /// Begins another try if that is allowed and can be paid for. False: it is not.
    async fn again(&mut self, course: &mut Course<'a>, asked: &Asked, at: usize, now: Moment) -> Result<bool, Over> {
        let again = retry::again(&course.service.retry, asked, &mut self.core.entropy.borrow_mut());
        let (wait, charged, same) = match again {
            Again::No(why) => {
                self.refused(course, why);
                return Ok(false);
            }
            Again::Now { charged, same } => (Duration::ZERO, charged, same),
            Again::After { wait, charged, same } => (wait, charged, same),
        };
        if charged && !self.pay(course, course.attempts == 1, now).await? {
            self.refused(course, Why::Budget);
            return Ok(false);
        }
        if !wait.is_zero() {
            self.pause(course.until.min(self.core.clock().now() + wait)).await?;
        }
        let mut next = Next { cause: cause_of(asked), charged, same, only: None };
        if asked.stale_race && !asked.free_used {
            // The same endpoint, on a new connection: it did nothing wrong.
            course.free_used = true;
            course.reuse = Reuse::Never;
            next.only = Some(at);
            self.core.commons_links(&course.endpoints[at]).stale_retries.inc();
        }
        let begun = matches!(self.begin(course, next), Begun::Yes);
        if !begun && charged {
            course.state.settle(false, now);
        }
        Ok(begun)
    }

    /// Pays for a second try out of the budget, which may ask for a pause first.
    async fn pay(&mut self, course: &Course<'a>, first_failed: bool, now: Moment) -> Result<bool, Over> {
        let wait = match course.state.spend(first_failed, now) {
            Spend::Granted => return Ok(true),
            Spend::Refused => return Ok(false),
            Spend::After(wait) => wait,
        };
        if now + wait >= course.until {
            return Ok(false);
        }
        self.pause(now + wait).await?;
        Ok(course.state.spend(false, self.core.clock().now()) == Spend::Granted)
    }

    /// Waits until then, as long as the client is there.
    async fn pause(&mut self, until: Moment) -> Result<(), Over> {
        match self.meanwhile(until, std::future::pending::<()>()).await {
            Err(Over::ClientGone) => Err(Over::ClientGone),
            _ => Ok(()),
        }
    }

    /// Nobody could be reached and nothing was sent: waits until somebody can be.
    async fn park(&mut self, course: &mut Course<'a>, fault: Fault) -> Result<(), Failure> {
        let core = self.core;
        loop {
            let now = core.clock().now();
            let rule = &course.service.park;
            let bytes = (self.scratch.out.len() + self.buf.len()) as u64;
            let Some(wait) = policy::park::wait(rule, course.until.since(now)) else {
                return Err(self.fault(fault, course.upload.is_done()));
            };
            let state = course.state;
            let park_until = *course.parked_until.get_or_insert(now + wait);
            let Some((mut parked, first)) = state.park.enter(rule, course.until, bytes) else {
                return Err(self.fault(fault, course.upload.is_done()));
            };
            state.tries.shard(core.index).parked.inc();
            if first {
                let entropy = Entropy::from_seed(core.entropy.borrow_mut().next_u64());
                core.commons.control.spawn(park::probe(state.clone(), core.clock().clone(), entropy));
            }
            let released = self.meanwhile(park_until.min(course.until), parked.released()).await;
            drop(parked);
            match released {
                Ok(()) => {}
                Err(Over::Timeout) => return Err(self.fault(fault, course.upload.is_done())),
                Err(over) => return Err(self.over(course, over)),
            }
            (course.tried, course.unreached) = (0, 0);
            match self.first(course).await {
                Ok(()) => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// A final answer has come. `None`: it is not passed on, another try is under way.
    async fn answered(&mut self, course: &mut Course<'a>, i: usize) -> Result<Option<End>, Failure> {
        let core = self.core;
        let now = core.clock().now();
        let mut one = course.tries.take(i);
        let status = one.parser.head().status;
        (course.sent, course.attempts) = (true, course.attempts + 1);
        self.reused = one.reused;
        let was_suspect = one.endpoint.is_suspect();
        one.endpoint.hear(now);
        let failing = matches!(status, 500 | 502..=504);
        let speaks = one.speaks();
        if failing && speaks {
            course.state.failed(one.endpoint, Blame::Status(status), now);
        } else if !failing {
            let us = u64::try_from(now.since(one.sent_at()).as_micros()).unwrap_or(u64::MAX);
            course.state.succeeded(one.endpoint, core.index, us, speaks, now);
        }
        if was_suspect && one.endpoint.is_suspect() {
            course.state.heard(one.endpoint, now);
        }
        if one.charged {
            course.state.settle(!failing, now);
        }
        if matches!(status, 502..=504) && self.goes_on(course, &one, status, now).await? {
            self.end_attempt(one.endpoint, class_of(status));
            self.dispose(course, one);
            return Ok(None);
        }
        one.end_trial();
        for loser in course.tries.drain().collect::<Vec<_>>() {
            self.lose(course, loser, false, now);
        }
        let endpoint = one.endpoint;
        self.endpoint = Some(endpoint);
        let (conn, parser) = one.into_conn();
        self.scratch.response = parser;
        let Some(conn) = conn else { return Err(self.unreachable("its connection is gone")) };
        Ok(Some(self.answer(course, endpoint, conn, now).await))
    }

    /// Whether an answer of 502, 503 or 504 is let go because another try is, or now gets, under way.
    async fn goes_on(
        &mut self,
        course: &mut Course<'a>,
        one: &Try<'a>,
        status: u16,
        now: Moment,
    ) -> Result<bool, Failure> {
        let retry_after = retry_after(one);
        if let Some(rest) = retry_after {
            one.endpoint.rest(rest.min(REST_MAX), now);
        }
        if !course.tries.is_empty() {
            return Ok(true);
        }
        let asked = Asked {
            outcome: Outcome::Status(status),
            idempotent: self.facts.idempotent,
            replayable: course.replayable,
            unsent: false,
            stale_race: false,
            free_used: course.free_used,
            attempts: course.attempts,
            untried: self.untried(course, now),
            fleet_in_trouble: self.in_trouble(course, now),
            left: course.until.since(now),
            retry_after,
        };
        match self.again(course, &asked, one.at, now).await {
            Ok(begun) => Ok(begun),
            Err(over) => Err(self.over(course, over)),
        }
    }

    /// Lets an answer go. If all of it is there, its connection is kept.
    fn dispose(&mut self, course: &Course<'a>, one: Try<'a>) {
        let (conn, parser) = one.into_conn();
        if let Some(mut conn) = conn
            && let Some(buf) = conn.buf.as_mut()
        {
            let head = parser.head();
            let body = match head.framing {
                AnswerFraming::None => Some(0),
                AnswerFraming::Length(n) => Some(n),
                _ => None,
            };
            let whole = body.map(|n| n.saturating_add(head.length as u64));
            if head.keep_alive && whole == Some(buf.len() as u64) {
                buf.consume(buf.len());
                self.core.pool.release(self.core, course.service, conn);
            } else if let Some(buf) = conn.buf.take() {
                self.core.buffers.give(buf);
            }
        }
        self.scratch.response = parser;
    }
}

/// What makes the try after this one.
fn cause_of(asked: &Asked) -> Cause {
    match asked.outcome {
        _ if asked.stale_race && !asked.free_used => Cause::Stale,
        Outcome::ConnectFailed => Cause::Connect,
        Outcome::Closed | Outcome::Broken => Cause::Broken,
        Outcome::Status(_) => Cause::Status,
        Outcome::TimedOut => Cause::Slow,
    }
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3). A date is not read: clocks differ, and it is seldom sent.
fn retry_after(one: &Try<'_>) -> Option<Duration> {
    let buf = one.conn()?.buf.as_ref()?.filled();
    let lines = &one.parser.head().lines;
    let line = lines.iter().find(|l| l.kind == Name::Other && l.name.of(buf).eq_ignore_ascii_case(b"retry-after"))?;
    let text = std::str::from_utf8(line.value.of(buf)).ok()?;
    text.trim().parse::<u32>().ok().map(|s| Duration::from_secs(u64::from(s)))
}
