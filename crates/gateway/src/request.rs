//! One request from its whole head to the last byte of its answer: decide, send (`sending`), relay, record.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use kernel::trace::Kept;
use kernel::{ErrorCode, Moment};

use crate::access::Entry;
use crate::buf::Buf;
use crate::conn::{Client, Next};
use crate::core::{Core, Held, Scratch};
use crate::decide::{self, Act};
use crate::facts::{Facts, View};
use crate::forward::{self, Outgoing};
use crate::h1::Framing;
use crate::pace::{Pace, Verdict};
use crate::plan::{EndpointPlan, RoutePlan, ServicePlan};
use crate::state::{EndpointState, NO_ANSWER, class_of};
use crate::story::{self, Mark, Told};

/// A request that is being served.
pub(crate) struct Serving<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) client: &'a mut Client,
    pub(crate) buf: &'a mut Buf,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) held: &'a Held,
    pub(crate) facts: Facts,
    pub(crate) route: Option<usize>,
    pub(crate) service: Option<usize>,
    /// Cross-origin fields for the answer.
    pub(crate) extra: Vec<(&'static str, String)>,
    pub(crate) rewritten: bool,
    /// Bytes of this request (head and small body) that are still at the front of the buffer.
    pub(crate) unread: usize,
    /// Where in what goes to the endpoint the time that is left is written.
    pub(crate) remaining_at: Option<usize>,
    /// For the record.
    pub(crate) endpoint: Option<&'a Arc<EndpointState>>,
    pub(crate) attempts: u32,
    pub(crate) reused: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// How a request ended.
pub(crate) struct End {
    pub(crate) status: u16,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) next: Next,
    /// Whether the client got an answer, and all of it.
    pub(crate) whole: bool,
    /// When it ended, if the clock was read then.
    pub(crate) at: Option<Moment>,
}

/// Why no answer came from a service.
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) detail: String,
    pub(crate) next: Next,
}

/// Serves the request whose head is whole at the front of `buf`.
pub(crate) async fn serve(core: &Rc<Core>, client: &mut Client, buf: &mut Buf, scratch: &mut Scratch) -> Next {
    let held = core.held();
    let plan = &held.snapshot.plan;
    client.requests += 1;
    scratch.out.clear();
    scratch.answer.clear();
    scratch.story.begin(plan.edge.trace.on);
    let facts = Facts::read(core, &held, client.peer.ip(), buf.filled(), scratch);
    let Scratch { request, path, .. } = scratch;
    let view = View { buf: buf.filled(), head: request.head() };
    let decision = decide::decide(core, plan, &facts, view, path);
    if let Some(route) = decision.route {
        held.snapshot.routes[route].traffic.shard(core.index).started.inc();
    }
    let unread = facts.head_length;
    let mut serving = Serving {
        core,
        client,
        buf,
        scratch,
        held: &held,
        facts,
        route: decision.route,
        service: None,
        extra: Vec::new(),
        rewritten: false,
        unread,
        remaining_at: None,
        endpoint: None,
        attempts: 0,
        reused: false,
        bytes_in: 0,
        bytes_out: 0,
    };
    let end = match decision.act {
        Act::Forward { service, extra, rewritten } => {
            serving.service = Some(service);
            (serving.extra, serving.rewritten) = (extra, rewritten);
            held.snapshot.services[service].traffic.shard(core.index).started.inc();
            match serving.forward(&plan.services[service]).await {
                Ok(end) => end,
                Err(failure) => serving.fail(failure).await,
            }
        }
        Act::Refuse(code, detail) => {
            serving.mark(serving.facts.started, Mark::Turned { error: code.code() });
            let next = serving.discard();
            serving.fail(Failure { code, detail, next }).await
        }
        Act::Answer(status, fields) => {
            serving.mark(serving.facts.started, Mark::Turned { error: "" });
            serving.answer_empty(status, &fields).await
        }
    };
    serving.record(&end);
    end.next
}

impl<'a> Serving<'a> {
    pub(crate) fn route_plan(&self) -> Option<&'a RoutePlan> {
        self.route.map(|r| &self.held.snapshot.plan.routes[r])
    }

    /// Whether the client's connection is kept behind a whole answer to a wholly read request.
    pub(crate) fn keeps(&self) -> bool {
        self.facts.keep_alive
            && (!self.core.is_closing() || self.client.owes_more(self.core, self.buf.len() > self.unread))
    }

    /// Drops what was read of the request; what comes next depends on whether all of it was.
    pub(crate) fn discard(&mut self) -> Next {
        let arrived = self.buf.len();
        let length = match self.facts.framing {
            Framing::None => Some(self.facts.head_length as u64),
            Framing::Length(n) => Some(n.saturating_add(self.facts.head_length as u64)),
            Framing::Chunked => None,
        };
        let whole = length.filter(|n| *n <= arrived as u64);
        self.buf.consume(whole.map_or(arrived, |n| n as usize));
        self.unread = 0;
        match whole {
            Some(_) if self.keeps() => Next::Keep,
            Some(_) => Next::Close,
            None => Next::Linger,
        }
    }

    /// Waits for a small body before an endpoint is asked: a slow client then costs a buffer and nothing else.
    pub(crate) async fn read_small_body(&mut self, n: usize) -> Result<(), Failure> {
        let want = self.facts.head_length + n;
        self.unread = want;
        self.bytes_in = n as u64;
        if self.buf.len() >= want {
            return Ok(());
        }
        let edge = &self.held.snapshot.plan.edge;
        let clock = self.core.clock();
        let mut pace = Pace::new(edge, edge.body_idle_timeout, clock.now());
        let (client, buf) = (&mut *self.client, &mut *self.buf);
        client.deadline.set(pace.next_look());
        let code = std::future::poll_fn(|cx| {
            while buf.len() < want {
                buf.make_room(want);
                match buf.poll_fill(cx, &mut client.io) {
                    Poll::Ready(Ok(n)) if n > 0 => pace.add(n),
                    Poll::Ready(_) => return Poll::Ready(Some(ErrorCode::ClientGone)),
                    Poll::Pending => {
                        if client.deadline.poll(cx).is_pending() {
                            return Poll::Pending;
                        }
                        if pace.look(edge, edge.body_idle_timeout, true, clock.now()) != Verdict::Fine {
                            return Poll::Ready(Some(ErrorCode::RequestTimeout));
                        }
                        client.deadline.set(pace.next_look());
                    }
                }
            }
            Poll::Ready(None)
        })
        .await;
        match code {
            None => Ok(()),
            Some(code) => Err(Failure { code, detail: "the body of the request".to_owned(), next: Next::Linger }),
        }
    }

    /// Writes what goes to the endpoint, and drops it from the buffer.
    pub(crate) fn write_out(&mut self, service: &ServicePlan, endpoint: &EndpointPlan, streamed: bool) {
        const NO_EDITS: &crate::plan::HeaderEdits = &crate::plan::HeaderEdits { remove: Vec::new(), set: Vec::new() };
        let Scratch { request, out, path, id, .. } = &mut *self.scratch;
        let edits = self.route.map_or(NO_EDITS, |r| &self.held.snapshot.plan.routes[r].request_headers);
        self.remaining_at = Outgoing {
            buf: self.buf.filled(),
            head: request.head(),
            trusted: self.facts.trusted,
            peer: self.client.peer.ip(),
            request_id: self.facts.request_id(id),
            traceparent: self.facts.traceparent(id),
            path: self.rewritten.then_some(path.as_slice()),
            host: service.host.as_deref(),
            edits,
            deadline: self.held.snapshot.plan.edge.deadline_header.as_deref(),
        }
        .write(endpoint, out);
        if !streamed {
            out.extend_from_slice(&self.buf.filled()[self.facts.head_length..self.unread]);
        }
        self.buf.consume(self.unread);
        self.unread = 0;
    }

    /// Writes how much time is left into what goes to the endpoint.
    pub(crate) fn write_remaining(&mut self, until: Moment, now: Moment) {
        if let Some(at) = self.remaining_at {
            let millis = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
            forward::write_deadline(&mut self.scratch.out, at, millis);
        }
    }

    /// Puts down what was done with the request.
    #[inline]
    pub(crate) fn mark(&mut self, at: Moment, mark: Mark) {
        self.scratch.story.mark(at, mark);
    }

    /// The request is one that `why` is to know of.
    #[inline]
    pub(crate) fn keep(&mut self, why: Kept) {
        self.scratch.story.keep(why);
    }

    /// Keeps what was done with the request, if it was not plain or belongs to the sample.
    fn remember(&mut self, end: &End, took: Duration) {
        let (core, snapshot) = (self.core, &self.held.snapshot);
        let rule = snapshot.plan.edge.trace;
        if !rule.on {
            return;
        }
        if end.status >= 500 || end.code.is_some() || !end.whole {
            self.keep(Kept::Failed);
        }
        // A tunnel lasts as long as its ends want.
        if took >= rule.slow && end.status != 101 {
            self.keep(Kept::Slow);
        }
        if self.scratch.story.kept() == 0 {
            let plain = core.plain.get() + 1;
            let sampled = rule.one_in > 0 && plain >= rule.one_in;
            core.plain.set(if sampled { 0 } else { plain });
            if !sampled {
                return;
            }
            self.keep(Kept::Sample);
        }
        let (method, target, host) = self.facts.seen(&self.scratch.seen);
        let name_of = |place: u16| {
            let endpoint = snapshot.endpoints[self.service?].get(usize::from(place))?;
            Some((place, endpoint.plan.name.as_str().into()))
        };
        let mut told = Told {
            id: self.facts.request_id(&self.scratch.id).into(),
            started: self.facts.started,
            method: story::method_of(method).into(),
            target: story::target_of(target).into(),
            host: story::host_of(host).into(),
            client: self.facts.client,
            route: self.route_plan().map(|r| r.name.as_str().into()),
            service: self.service.map(|s| snapshot.plan.services[s].name.as_str().into()),
            endpoints: self.scratch.story.places().into_iter().filter_map(name_of).collect(),
            kept: 0,
            marks: Box::default(),
            clipped: false,
            detail: Box::default(),
            status: end.status,
            code: end.code,
            whole: end.whole,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            bytes: self.bytes_out,
        };
        self.scratch.story.give(&mut told);
        core.commons.stories[core.index].keep(told);
    }

    /// Counts the request and writes its line.
    fn record(&mut self, end: &End) {
        let core = self.core;
        let at = end.at.unwrap_or_else(|| core.clock().now());
        let took = at.since(self.facts.started);
        let us = took.as_micros() as u64;
        // An answer that broke off is no answer, whatever its status said.
        let class = if end.whole { class_of(end.status) } else { NO_ANSWER };
        let held = self.held;
        let snapshot = &held.snapshot;
        let second_tries = u64::from(self.attempts.saturating_sub(1));
        let route = self.route.map(|route| &snapshot.routes[route].traffic);
        let service = self.service.map(|service| &snapshot.services[service].traffic);
        for traffic in route.into_iter().chain(service) {
            let cells = traffic.shard(core.index);
            cells.ended(class, us);
            if second_tries > 0 {
                cells.second_tries.add(second_tries);
            }
        }
        self.remember(end, took);
        let edge = core.edge();
        edge.bytes_out.add(self.bytes_out);
        if let Some(code) = end.code {
            edge.errors[code.index()].inc();
        }
        let Some(log) = &snapshot.plan.access_log else { return };
        let noteworthy = end.status >= 500 || end.code.is_some();
        if !noteworthy && log.sample < 1.0 && core.entropy.borrow_mut().unit() >= log.sample {
            return;
        }
        let (method, target, host) = self.facts.seen(&self.scratch.seen);
        core.commons.access.log(
            log,
            &Entry {
                at: core.clock().wall_at(at),
                client: self.facts.client,
                method,
                target,
                host,
                status: end.status,
                code: end.code,
                took,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                route: self.route_plan().map(|r| r.name.as_str()),
                service: self.service.map(|s| snapshot.plan.services[s].name.as_str()),
                endpoint: self.endpoint.map(|e| e.plan.name.as_str()),
                attempts: self.attempts,
                reused: self.reused,
                request_id: self.facts.request_id(&self.scratch.id),
            },
        );
    }
}
